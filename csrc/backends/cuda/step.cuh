// A step of a rule over many tensors, with its options: run.cc of the CPU kernels, in one pass where the norms
// allow. The results are theirs, bit for bit but for powers and the order of sums.
//
// Nothing here comes from the host at a step but addresses and numbers that never change: learning rate, iterations and
// loss scale are read from device memory, and what depends on them is decided on the device.
#ifndef FUSEMIN_KERNELS_CUDA_STEP_CUH_
#define FUSEMIN_KERNELS_CUDA_STEP_CUH_

#include "backends/cuda/sums.cuh"
#include "numeric/rule_list.h"

namespace fusemin::cuda {

template <class V>
struct Narrow {
  FUSEMIN_HOST_DEVICE V operator()(double x) const { return static_cast<V>(x); }
};

// Rule i of a list.
template <class List, int i>
struct RuleAt;
template <class First, class... Rest>
struct RuleAt<RuleList<First, Rest...>, 0> {
  using Type = First;
};
template <class First, class... Rest, int i>
struct RuleAt<RuleList<First, Rest...>, i> : RuleAt<RuleList<Rest...>, i - 1> {};

template <class List>
struct RuleCount;
template <class... R>
struct RuleCount<RuleList<R...>> {
  static constexpr int kValue = sizeof...(R);
};

// The options at this step.
template <class V>
struct Options {
  // Whether parameters move at this step, and whether it is skipped for a gradient that is not finite.
  bool moves, skipped;
  bool replaces;
  // What the gradient is multiplied with as it is collected, and afterwards; what OnMove is given. The last two are of
  // the tensor.
  V collected_scale, scale, move_factor;
  // `scale` before the norm of the tensor.
  double scale_of_step;
  UserOptions::Prepared<V> prepared;
};

template <class R, class V>
struct Prepared {
  typename R::template Prepared<V> rule;
  Options<V> options;
  // Of the tensor.
  V ratio;
  // The number of the update, from 1.
  double number;
  double hyperparameters[kMaxHyperparameters];
  double scalars[kNumScalars], next_scalars[kMaxScalars];
};

template <class V>
__device__ __forceinline__ void PrepareOptions(const StepParameters& p, const Now<double, int64_t>& now,
                                               const Sums& of_step, Options<V>* options) {
  const UserOptions& user = p.options;
  const double incoming = user.GradientScale(now);
  double scale = user.Any<HasCollect>() ? user.CollectedScale() : incoming;
  options->moves = user.Applies(now);
  options->skipped = user.SkipsNonFinite() && of_step.second > 0.0;
  if (options->moves && user.WhichNorm() == Norm::kOfStep) scale *= user.NormFactor(sqrt(of_step.first) * scale);
  options->collected_scale = static_cast<V>(incoming);
  options->scale_of_step = scale;
  options->scale = static_cast<V>(scale);
  options->move_factor = V{};
  // All of it is written, since it may be read before it is known what of it counts.
  UserOptions::Prepared<V> of_user{};
  user.Prepare(now, Narrow<V>(), &of_user);
  options->prepared = of_user;
  options->replaces = UserOptions::Replaces(options->prepared, false);
}

// What is the same for all tensors. Every thread of the block must call it.
template <class R, class V, bool kOptions>
__device__ __forceinline__ void PrepareStep(const StepParameters& p, Prepared<R, V>* prepared) {
  Sums of_step{};
  if constexpr (kOptions) {
    if (p.options.WhichNorm() == Norm::kOfStep || p.options.SkipsNonFinite()) {
      of_step = SumOverStep(p, p.gradient_sums);
    }
  }
  const uint32_t k = threadIdx.x;
  if (k < kMaxHyperparameters + kNumScalars) {
    const bool is_scalar = k >= kMaxHyperparameters;
    const uint32_t scalar = k - kMaxHyperparameters;
    const double value = LoadScalar(is_scalar ? p.scalar_types[scalar] : p.hyperparameter_types[k],
                                    is_scalar ? p.scalars[scalar].in : p.hyperparameters[k]);
    (is_scalar ? prepared->scalars[scalar] : prepared->hyperparameters[k]) = value;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    const int64_t taken = static_cast<int64_t>(prepared->scalars[kIterations]);
    int64_t updates = taken;
    if constexpr (kOptions) {
      updates = p.options.Updates(taken);
      Now<double, int64_t> now{taken, updates, prepared->hyperparameters[0], {}};
      for (int i = 0; i < kNumOptionScalars; ++i) now.scalars[i] = prepared->scalars[kOptionScalar + i];
      PrepareOptions(p, now, of_step, &prepared->options);
    }
    for (int i = 0; i < kMaxScalars; ++i) prepared->next_scalars[i] = prepared->scalars[kRuleScalar + i];
    prepared->number = static_cast<double>(updates + 1);
    prepared->rule = R::Prepare(prepared->hyperparameters, prepared->number, prepared->next_scalars, Narrow<V>());
    // May be read where it does not count.
    if constexpr (HasTrustRatio<R>::kValue) prepared->ratio = V{};
  }
  __syncthreads();
}

// What is of the tensor of a chunk. Every thread of the block must call it.
template <class R, class V, bool kOptions>
__device__ __forceinline__ void PrepareTensor(const StepParameters& p, const Chunk& chunk, Prepared<R, V>* prepared) {
  const bool has_norm = kOptions && p.options.WhichNorm() == Norm::kOfTensor;
  const bool has_move =
      kOptions && p.options.Any<HasOnMove>() && (p.phase == Phase::kUpdate || p.phase == Phase::kMove);
  const bool has_ratio = HasTrustRatio<R>::kValue && p.phase != Phase::kSlots;
  if (!has_norm && !has_move && !has_ratio) return;
  // That of the chunk before may still be read.
  __syncthreads();
  if (threadIdx.x == 0) {
    const uint32_t tensor = p.first_tensor + chunk.tensor;
    if constexpr (kOptions) {
      Options<V>& options = prepared->options;
      if (has_norm && options.moves) {
        const double norm = sqrt(Global<const Sums>(p.gradient_sums)[tensor].first);
        const double scale = options.scale_of_step;
        options.scale = static_cast<V>(scale * p.options.NormFactor(norm * scale));
      }
      if (has_move) {
        const double size = static_cast<double>(p.size_and_flags(chunk.tensor) & kSizeMask);
        const double sum = Global<const Sums>(p.move_sums())[tensor].first;
        options.move_factor = static_cast<V>(UserOptions::MoveFactor(sum, size));
      }
    }
    if constexpr (HasTrustRatio<R>::kValue) {
      if (has_ratio) {
        const Sums sums = Global<const Sums>(p.rule_sums())[tensor];
        prepared->ratio = R::Ratio(prepared->rule, static_cast<V>(sqrt(sums.first)), static_cast<V>(sqrt(sums.second)));
      }
    }
  }
  __syncthreads();
}

// A rule and the options, on `Elements<T, kSize>`.
template <class R, class T, int kSize, bool kOptions>
struct Worker {
  using V = typename Number<T>::Value;
  using At = Elements<T, kSize>;
  using Values = Pack<T, kSize>;
  static constexpr int kSlots = R::kSlots.kSize;

  const StepParameters& p;
  const Chunk& chunk;
  const typename R::template Prepared<V>& c;
  const Options<V>& options;
  const V ratio;

  __device__ __forceinline__ bool ActsBeforeRule() const { return kOptions && p.options.AnyBeforeRule(chunk.decays); }

  // The gradient as the rule sees it, from the elements' own and, if there is one, the accumulator, which it updates.
  __device__ __forceinline__ Values Gradient(const At& at) const {
    Values gradient{};
    if (!kOptions || !p.accumulated || p.position[kGradientRow] >= 0 || p.position[kAccumulatorIn] < 0) {
      gradient = at.Load(kGradient);
    }
    if constexpr (kOptions) {
      if (p.is_last_of_gradient) at.StoreRow(kGradientRow, gradient);
      if (p.position[kAccumulatorIn] >= 0) {
        if (p.accumulated) {
          gradient = at.Load(kAccumulatorOut);
        } else {
          const Values accumulator = at.Load(kAccumulatorIn);
          gradient = options.skipped ? accumulator : Collected(gradient, accumulator);
        }
        at.Store(kAccumulatorOut, options.moves && !options.skipped && p.is_last_of_gradient ? Values{} : gradient);
      }
#pragma unroll
      for (int k = 0; k < kSize; ++k) {
        const V value = Stored<T>::Load(gradient.Get(k)) * options.scale;
        gradient.Set(k, Stored<T>::Store(UserOptions::OnGradient(options.prepared, value)));
      }
    }
    return gradient;
  }

  __device__ __forceinline__ Values Collected(const Values& gradient, const Values& accumulator) const {
    Values sum;
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      sum.Set(k, Stored<T>::Store(UserOptions::Collect(Stored<T>::Load(accumulator.Get(k)),
                                                       Stored<T>::Load(gradient.Get(k)) * options.collected_scale)));
    }
    return sum;
  }

  __device__ __forceinline__ T BeforeRule(T param) const {
    return Stored<T>::Store(UserOptions::BeforeRule(options.prepared, chunk.decays, Stored<T>::Load(param)));
  }

  __device__ __forceinline__ void LoadSlots(const At& at, int first_role, Values* slots) const {
#pragma unroll
    for (int s = 0; s < kSlots; ++s) slots[s] = at.Load(first_role + s);
  }

  // Slots that stay as they are, where they have memory of their own to go to.
  __device__ __forceinline__ void CopySlots(const At& at) const {
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      if (!at.InPlace(kSlotIn + s, kSlotOut + s)) at.Store(kSlotOut + s, at.Load(kSlotIn + s));
    }
  }

  // The average, and the row, after the parameter has its new value. `changed` is whether that is yet to be stored.
  __device__ __forceinline__ void Finish(const At& at, Values param, bool changed) const {
    if constexpr (kOptions) {
      if (p.position[kAverageIn] >= 0) {
        Values average = at.Load(kAverageIn);
        if (!options.skipped) {
#pragma unroll
          for (int k = 0; k < kSize; ++k) {
            average.Set(k, Stored<T>::Store(UserOptions::AfterRule(options.prepared, Stored<T>::Load(average.Get(k)),
                                                                   Stored<T>::Load(param.Get(k)))));
          }
          if (options.replaces) {
            param = average;
            changed = true;
          }
        }
        at.Store(kAverageOut, average);
      }
      at.StoreRow(kParamRow, param);
    }
    if (changed || !at.InPlace(kParamIn, kParamOut)) at.Store(kParamOut, param);
  }

  __device__ __forceinline__ bool ActsOnMove() const { return kOptions && p.options.Any<HasOnMove>(); }
  __device__ __forceinline__ bool Tries() const { return kOptions && p.phase == Phase::kTry; }

  // Where a parameter goes that the rule would move from `old` to `moved`. A trial adds to the sum instead.
  __device__ __forceinline__ V OnMove(T gradient, V old, V moved, Sums* sums) const {
    if (!ActsOnMove()) return moved;
    const V g = Stored<T>::Load(gradient), move = old - Stored<T>::Load(Stored<T>::Store(moved));
    if (!Tries()) return old - UserOptions::OnMove(g, move, options.move_factor);
    sums->first += static_cast<double>(UserOptions::MoveTerm(g, move));
    return moved;
  }

  // The parameter and the slots by the rule, which adds to the sums if it has some.
  __device__ __forceinline__ void Update(const At& at, Sums* sums) const {
    const Values gradient = Gradient(at);
    Values param = at.Load(kParamIn);
    if (kOptions && (!options.moves || options.skipped)) {
      if (Tries()) return;
      CopySlots(at);
      return Finish(at, param, false);
    }
    Values slots[kSlots + 1];
    LoadSlots(at, kSlotIn, slots);
    const bool acts_before = ActsBeforeRule();
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      if (acts_before) param.Set(k, BeforeRule(param.Get(k)));
      V value = Stored<T>::Load(param.Get(k));
      V slot_values[kSlots + 1];
#pragma unroll
      for (int s = 0; s < kSlots; ++s) slot_values[s] = Stored<T>::Load(slots[s].Get(k));
      const V old = value;
      V addends[kMaxStepSums]{};
      UpdateElement<R>(c, Stored<T>::Load(gradient.Get(k)), value, slot_values, addends);
      if constexpr (HasStepSums<R>::kValue) {
        if (!Tries()) Add(*sums, Sums{addends[0], addends[1]});
      }
      param.Set(k, Stored<T>::Store(OnMove(gradient.Get(k), old, value, sums)));
#pragma unroll
      for (int s = 0; s < kSlots; ++s) slots[s].Set(k, Stored<T>::Store(slot_values[s]));
    }
    if (Tries()) return;
#pragma unroll
    for (int s = 0; s < kSlots; ++s) at.Store(kSlotOut + s, slots[s]);
    Finish(at, param, true);
  }

  // The first pass of a rule with a trust ratio: the slots and the sums. A parameter that decays is stored, for the
  // second pass.
  __device__ __forceinline__ void UpdateSlots(const At& at, Sums* sums) const {
    const Values gradient = Gradient(at);
    if (kOptions && (!options.moves || options.skipped)) return CopySlots(at);
    Values param = at.Load(kParamIn);
    Values slots[kSlots + 1];
    LoadSlots(at, kSlotIn, slots);
    const bool acts_before = ActsBeforeRule();
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      if (acts_before) param.Set(k, BeforeRule(param.Get(k)));
      const V value = Stored<T>::Load(param.Get(k));
      V slot_values[kSlots + 1];
#pragma unroll
      for (int s = 0; s < kSlots; ++s) slot_values[s] = Stored<T>::Load(slots[s].Get(k));
      R::UpdateSlots(c, Stored<T>::Load(gradient.Get(k)), slot_values);
#pragma unroll
      for (int s = 0; s < kSlots; ++s) {
        slots[s].Set(k, Stored<T>::Store(slot_values[s]));
        slot_values[s] = Stored<T>::Load(slots[s].Get(k));
      }
      const double direction = R::Direction(c, slot_values);
      sums->first += static_cast<double>(value) * value;
      sums->second += direction * direction;
    }
#pragma unroll
    for (int s = 0; s < kSlots; ++s) at.Store(kSlotOut + s, slots[s]);
    if (acts_before) at.Store(kParamOut, param);
  }

  // The second pass of a rule with a trust ratio.
  __device__ __forceinline__ void Move(const At& at, Sums* sums) const {
    Values gradient{};
    if (ActsOnMove()) gradient = Gradient(at);
    if (kOptions && (!options.moves || options.skipped)) {
      if (Tries()) return;
      return Finish(at, at.Load(kParamIn), false);
    }
    Values param = at.Load(ActsBeforeRule() ? kParamOut : kParamIn);
    Values slots[kSlots + 1];
    LoadSlots(at, kSlotOut, slots);
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      V slot_values[kSlots + 1];
#pragma unroll
      for (int s = 0; s < kSlots; ++s) slot_values[s] = Stored<T>::Load(slots[s].Get(k));
      const V old = Stored<T>::Load(param.Get(k));
      param.Set(k, Stored<T>::Store(OnMove(gradient.Get(k), old, old - ratio * R::Direction(c, slot_values), sums)));
    }
    if (Tries()) return;
    Finish(at, param, true);
  }
};

// The next value of scalar variable `k`.
template <bool kOptions, class Shared>
__device__ __forceinline__ double NextScalar(const StepParameters& p, const Shared& prepared, int k) {
  bool moves = true, skipped = false;
  if constexpr (kOptions) {
    moves = prepared.options.moves;
    skipped = prepared.options.skipped;
  }
  const double old = prepared.scalars[k];
  if (k < kRuleScalar + kMaxScalars) return moves && !skipped ? prepared.next_scalars[k - kRuleScalar] : old;
  if (k == kIterations) return skipped ? old : old + 1.0;
  double of_options[kNumOptionScalars];
  for (int i = 0; i < kNumOptionScalars; ++i) of_options[i] = prepared.scalars[kOptionScalar + i];
  p.options.NextScalars(of_options, !skipped);
  double next = 0.0;
#pragma unroll
  for (int i = 0; i < kNumOptionScalars; ++i) {
    if (k == kOptionScalar + i) next = of_options[i];
  }
  return next;
}

// The elements of one chunk, and its part of the sums.
template <class R, class T, bool kOptions>
__device__ __forceinline__ void UpdateChunk(const StepParameters& p, const Chunk& chunk,
                                            const Prepared<R, typename Number<T>::Value>& prepared) {
  using V = typename Number<T>::Value;
  // They stay in shared memory: in registers they would be in the way of elements.
  const auto& c = prepared.rule;
  const auto& options = prepared.options;
  V ratio{};
  if constexpr (HasTrustRatio<R>::kValue) ratio = prepared.ratio;
  const auto worker = [&](const auto& at) {
    constexpr int kSize = sizeof at.Load(0) / sizeof(T);
    return Worker<R, T, kSize, kOptions>{p, chunk, c, options, ratio};
  };
  Sums sums{};
  if constexpr (HasTrustRatio<R>::kValue) {
    if (p.phase == Phase::kSlots) {
      ForEach<T>(p, chunk, [&](const auto& at) { worker(at).UpdateSlots(at, &sums); });
      return SumOverTensor(p, chunk, sums, p.rule_sums());
    }
    ForEach<T>(p, chunk, [&](const auto& at) { worker(at).Move(at, &sums); });
  } else {
    ForEach<T>(p, chunk, [&](const auto& at) { worker(at).Update(at, &sums); });
  }
  if (kOptions && p.phase == Phase::kTry) return SumOverTensor(p, chunk, sums, p.move_sums());
  if constexpr (HasStepSums<R>::kValue) SumOverTensor(p, chunk, sums, p.rule_sums());
}

template <class R, class T, bool kOptions>
__device__ __forceinline__ void Step(const StepParameters& p) {
  using V = typename Number<T>::Value;
  __shared__ Prepared<R, V> prepared;
  PrepareStep<R, V, kOptions>(p, &prepared);
  ForEachChunk(p, [&](const Chunk& chunk) {
    PrepareTensor<R, V, kOptions>(p, chunk, &prepared);
    UpdateChunk<R, T, kOptions>(p, chunk, prepared);
  });
  if (!p.finishes || !IsLast(Global<uint32_t>(p.tickets), gridDim.x)) return;
  if constexpr (HasStepSums<R>::kValue) {
    const Sums of_step = SumOverStep(p, p.rule_sums());
    if (threadIdx.x == 0) {
      const double of_rule[kMaxStepSums] = {of_step.first, of_step.second};
      R::Finish(prepared.hyperparameters, prepared.number, of_rule, prepared.next_scalars);
    }
    __syncthreads();
  }
  for (int k = 0; k < p.num_copies; ++k) {
    const SmallCopy& copy = p.copies[k];
    for (uint32_t i = threadIdx.x; i < copy.bytes; i += kThreads) {
      Global<uint8_t>(copy.to)[i] = Global<const uint8_t>(copy.from)[i];
    }
  }
  const int k = threadIdx.x;
  if (k < kNumScalars && p.scalars[k].out != 0) {
    StoreScalar(p.scalar_types[k], p.scalars[k].out, NextScalar<kOptions>(p, prepared, k));
  }
}

}  // namespace fusemin::cuda

// `threads` and `blocks` limit the registers of a thread: to 65536 / (threads * blocks).
#define FUSEMIN_STEP_KERNEL(name, threads, blocks, header, index, T, options)                              \
  extern "C" __global__ void __launch_bounds__(threads, blocks)                                            \
      name(const __grid_constant__ fusemin::cuda::StepParameters p) {                                      \
    fusemin::cuda::Step<fusemin::cuda::RuleAt<fusemin::rules::header::Rules, index>::Type, T, options>(p); \
  }
#define FUSEMIN_TYPE_KERNELS(header, index, dtype, T, threads, blocks)                              \
  FUSEMIN_STEP_KERNEL(header##_##index##_##dtype##_plain, threads, blocks, header, index, T, false) \
  FUSEMIN_STEP_KERNEL(header##_##index##_##dtype##_options, threads, blocks, header, index, T, true)

// The kernels of rule `index` of a header, with at most 64 registers, or 96 in float64: 256 threads of it are launched,
// as of the others, but 320 are what leaves no more.
#define FUSEMIN_RULE_KERNELS(header, index)                              \
  FUSEMIN_TYPE_KERNELS(header, index, float32, float, 256, 4)            \
  FUSEMIN_TYPE_KERNELS(header, index, float64, double, 320, 2)           \
  FUSEMIN_TYPE_KERNELS(header, index, float16, fusemin::Float16, 256, 4) \
  FUSEMIN_TYPE_KERNELS(header, index, bfloat16, fusemin::BFloat16, 256, 4)

#endif  // FUSEMIN_KERNELS_CUDA_STEP_CUH_
