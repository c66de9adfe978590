#include "backends/cuda/run.h"

#include <algorithm>
#include <cstring>

#include "step/dtype_names.h"
#include "step/step_cost.h"

namespace fusemin::cuda {
namespace {

uint64_t Address(const void* memory) { return reinterpret_cast<uint64_t>(memory); }

uint64_t CeilDiv(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

// Where the pointers of each role are found in a segment. A role that no segment of a step has takes no place.
struct Roles {
  Roles(const Rule& rule, const Segment* segments, const std::vector<int>& tensors) {
    std::fill(position, position + kNumRoles, -1);
    const auto any = [&](const auto& condition) {
      return std::any_of(tensors.begin(), tensors.end(), [&](int i) { return condition(segments[i]); });
    };
    const auto has = [&](int role) { return any([&](const Segment& s) { return Pointer(s, role) != nullptr; }); };
    const auto add = [&](int role) {
      if (has(role)) position[role] = static_cast<int8_t>(num_pointers++);
    };
    const auto add_pair = [&](int in, int out) {
      add(in);
      position[out] = position[in];
      if (any([&](const Segment& s) { return Pointer(s, in) != Pointer(s, out); })) add(out);
    };
    add(kGradient);
    add_pair(kParamIn, kParamOut);
    for (int k = 0; k < rule.num_slots; ++k) add_pair(kSlotIn + k, kSlotOut + k);
    add_pair(kAverageIn, kAverageOut);
    add_pair(kAccumulatorIn, kAccumulatorOut);
    // All but rows: where one of these is not aligned, the elements go one by one.
    aligned_mask = (uint32_t{1} << num_pointers) - 1;
    add(kGradientRow);
    add(kParamRow);
  }

  static const void* Pointer(const Segment& s, int role) {
    if (role >= kSlotIn && role < kSlotIn + kMaxSlots) return s.slot_in[role - kSlotIn];
    if (role >= kSlotOut && role < kSlotOut + kMaxSlots) return s.slot_out[role - kSlotOut];
    switch (role) {
      case kGradient:
        return s.gradient;
      case kParamIn:
        return s.param_in;
      case kParamOut:
        return s.param_out;
      case kAverageIn:
        return s.average_in;
      case kAverageOut:
        return s.average_out;
      case kAccumulatorIn:
        return s.accumulator_in;
      case kAccumulatorOut:
        return s.accumulator_out;
      case kGradientRow:
        return s.gradient_row;
      default:
        return s.param_row;
    }
  }

  int8_t position[kNumRoles];
  int num_pointers = 0;
  uint32_t aligned_mask = 0;
};

// The table of some tensors, and how many chunks they have.
void FillTable(const Roles& roles, const Segment* segments, const int* tensors, uint32_t n, StepParameters* p) {
  p->num_tensors = n;
  uint64_t chunks = 0;
  for (uint32_t t = 0; t < n; ++t) {
    const Segment& segment = segments[tensors[t]];
    uint64_t word = static_cast<uint64_t>(segment.size) | uint64_t{segment.decays} << kDecayBit;
    for (int role = 0; role < kNumRoles; ++role) {
      if (roles.position[role] < 0) continue;
      // Of a pair in place, In and Out say the same.
      const uint64_t address = Address(Roles::Pointer(segment, role));
      p->table[t * roles.num_pointers + roles.position[role]] = address;
      if (address % kVectorBytes != 0) word |= uint64_t{1} << (kUnalignedBit + roles.position[role]);
    }
    p->table[n * roles.num_pointers + t] = word;
    uint64_t& pair = p->table[n * (roles.num_pointers + 1) + t / 2];
    pair |= chunks << (t % 2 * 32);
    chunks += CeilDiv(segment.size, p->chunk);
  }
  p->num_chunks = static_cast<uint32_t>(chunks);
}

std::vector<RowFillParameters> PlanFills(const std::vector<RowCopies>& copies) {
  std::vector<RowFillParameters> fills;
  for (const RowCopies& copy : copies) {
    if (copy.bytes * copy.count == 0) continue;
    if (fills.empty() || fills.back().num_fills == kMaxRowFills) {
      fills.push_back(RowFillParameters{});
    }
    const auto aligned = [&](uint64_t width) {
      return Address(copy.to) % width == 0 && Address(copy.from) % width == 0 && copy.bytes % width == 0;
    };
    const uint32_t width = aligned(16) ? 16 : aligned(4) ? 4 : 1;
    RowFillParameters& p = fills.back();
    p.fills[p.num_fills++] = {Address(copy.to), Address(copy.from), copy.bytes, copy.count, p.num_parts, width};
    p.num_parts += static_cast<uint32_t>(CeilDiv(copy.bytes * copy.count, kRowFillBytes));
  }
  return fills;
}

// As many blocks as the device runs at once, or `most`, if these are fewer: a block goes on until nothing is left.
std::string LaunchKernel(const DriverTable& driver, const CurrentContext& context, Stream stream, const Rule* rule,
                         const std::string& variant, unsigned most, void* parameters) {
  Kernel kernel;
  std::string error = FindKernel(driver, context.get(), rule, variant, &kernel);
  if (!error.empty()) return error;
  const unsigned num_blocks = std::max(std::min(most, kernel.resident_blocks), 1u);
  void* arguments[] = {parameters};
  const Result result =
      driver.cuLaunchKernel(kernel.function, num_blocks, 1, 1, kThreads, 1, 1, 0, stream, arguments, nullptr);
  return result == 0 ? "" : DescribeError(driver, result, "launching the kernel " + kernel.name);
}

std::string EnqueueFills(const DriverTable& driver, const CurrentContext& context, Stream stream,
                         std::vector<RowFillParameters>* fills) {
  for (RowFillParameters& p : *fills) {
    std::string error = LaunchKernel(driver, context, stream, nullptr, "fill_rows", p.num_parts, &p);
    if (!error.empty()) return error;
  }
  return "";
}

}  // namespace

Plan::Plan(const Step& step, const Segment* segments, int num_segments, const std::vector<RowCopies>& copies) {
  const UserOptions& options = step.options;
  const Rule& rule = *step.rule;
  std::vector<int> tensors;
  for (int i = 0; i < num_segments; ++i) {
    if (segments[i].size > 0) tensors.push_back(i);
  }
  const Roles roles(rule, segments, tensors);
  const bool sums = NeedsSums(options);
  const bool twice = rule.has_trust_ratio;
  const bool plain = !HasOptions(options) && roles.position[kGradientRow] < 0 && roles.position[kParamRow] < 0;

  StepParameters base{};
  base.options = options;
  std::memcpy(base.hyperparameters, step.hyperparameters, sizeof base.hyperparameters);
  std::memcpy(base.hyperparameter_types, step.hyperparameter_types, sizeof base.hyperparameter_types);
  std::memcpy(base.scalars, step.scalars, sizeof base.scalars);
  std::memcpy(base.scalar_types, step.scalar_types, sizeof base.scalar_types);
  std::memcpy(base.position, roles.position, sizeof base.position);
  base.num_pointers = static_cast<uint8_t>(roles.num_pointers);
  base.aligned_mask = roles.aligned_mask;
  base.dtype = step.dtype;
  base.num_step_tensors = static_cast<uint32_t>(tensors.size());
  const auto count_chunks = [&](int64_t chunk) {
    uint64_t n = 0;
    for (int i : tensors) n += CeilDiv(segments[i].size, chunk);
    return n;
  };
  base.chunk = kMinChunk;
  while (base.chunk < kMaxChunk && count_chunks(base.chunk) > kTargetChunks) base.chunk *= 2;

  // Groups of as many tensors as a table takes. A step without elements still counts.
  std::vector<StepParameters> groups;
  for (size_t first = 0; first < tensors.size() || first == 0;) {
    const uint32_t n =
        static_cast<uint32_t>(std::min<size_t>(tensors.size() - first, Capacity(std::max(roles.num_pointers, 1))));
    StepParameters p = base;
    p.first_tensor = static_cast<uint32_t>(first);
    p.first_chunk = num_chunks_;
    FillTable(roles, segments, tensors.data() + first, n, &p);
    num_chunks_ += p.num_chunks;
    groups.push_back(p);
    first += std::max(n, 1u);
  }
  num_tensors_ = tensors.size();

  const std::string dtype = NameOf(step.dtype);
  const std::string variant = dtype + (plain ? "_plain" : "_options");
  const bool tries = options.Any<HasOnMove>();
  if (!tensors.empty()) {
    if (sums) AddLaunches(groups, nullptr, "sum_gradients_" + dtype, Phase::kUpdate);
    // That pass adds to the accumulators, unless it decides whether the step is skipped.
    for (StepParameters& p : groups) p.accumulated = sums && !options.SkipsNonFinite();
    if (twice) {
      for (StepParameters& p : groups) p.is_last_of_gradient = !tries;
      AddLaunches(groups, &rule, variant, Phase::kSlots);
    }
    for (StepParameters& p : groups) p.accumulated |= twice;
    if (tries) {
      for (StepParameters& p : groups) p.is_last_of_gradient = false;
      AddLaunches(groups, &rule, variant, Phase::kTry);
      for (StepParameters& p : groups) p.accumulated = true;
    }
  }
  const bool has_sums = !launches_.empty() || rule.num_step_sums > 0;
  for (StepParameters& p : groups) p.is_last_of_gradient = true;
  AddLaunches(groups, &rule, variant, twice ? Phase::kMove : Phase::kUpdate);

  StepParameters& last = launches_.back().parameters;
  std::vector<RowCopies> others;
  for (const RowCopies& copy : copies) {
    if (copy.count == 1 && copy.bytes <= kMaxSmallCopyBytes && last.num_copies < kMaxSmallCopies) {
      last.copies[last.num_copies++] = {Address(copy.to), Address(copy.from), static_cast<uint32_t>(copy.bytes)};
    } else {
      others.push_back(copy);
    }
    num_bytes_ += copy.bytes * (copy.count + 1);
  }
  last.finishes = last.num_copies > 0 || std::any_of(last.scalars, last.scalars + kNumScalars,
                                                     [](const ScalarMemory& scalar) { return scalar.out != 0; });
  fills_ = PlanFills(others);
  // Nothing to do: all tensors are empty, and nothing counts the step.
  if (tensors.empty() && !last.finishes) launches_.clear();

  const uint64_t element = kDTypeSize[static_cast<int>(step.dtype)];
  for (int i : tensors) num_bytes_ += ElementsMoved(rule, options, segments[i]) * element;
  if (has_sums) scratch_bytes_ = (num_chunks_ + 3 * num_tensors_) * sizeof(Sums);
}

void Plan::AddLaunches(const std::vector<StepParameters>& groups, const Rule* rule, const std::string& variant,
                       Phase phase) {
  for (const StepParameters& group : groups) {
    launches_.push_back({rule, variant, group});
    launches_.back().parameters.phase = phase;
  }
}

std::string Plan::Enqueue(Stream stream, uint64_t scratch, uint64_t tickets) {
  if (num_launches() == 0) return "";
  std::string error;
  const DriverTable* driver = Driver(&error);
  if (driver == nullptr) return error;
  const CurrentContext context(*driver, stream);
  if (!context.error().empty()) return context.error();
  for (Launch& launch : launches_) {
    StepParameters& p = launch.parameters;
    if (scratch_bytes_ > 0) {
      p.chunk_sums = scratch;
      p.gradient_sums = scratch + num_chunks_ * sizeof(Sums);
    }
    p.tickets = tickets;
    error = LaunchKernel(*driver, context, stream, launch.rule, launch.variant, p.num_chunks, &p);
    if (!error.empty()) return error;
  }
  return EnqueueFills(*driver, context, stream, &fills_);
}

std::string ZeroTickets(Stream stream, uint64_t tickets) {
  std::string error;
  const DriverTable* driver = Driver(&error);
  if (driver == nullptr) return error;
  const CurrentContext context(*driver, stream);
  if (!context.error().empty()) return context.error();
  const Result result = driver->cuMemsetD8Async(tickets, 0, kNumTickets * sizeof(uint32_t), stream);
  return result == 0 ? "" : DescribeError(*driver, result, "cuMemsetD8Async");
}

std::string EnqueueCopies(Stream stream, const std::vector<RowCopies>& copies) {
  std::vector<RowFillParameters> fills = PlanFills(copies);
  if (fills.empty()) return "";
  std::string error;
  const DriverTable* driver = Driver(&error);
  if (driver == nullptr) return error;
  const CurrentContext context(*driver, stream);
  if (!context.error().empty()) return context.error();
  return EnqueueFills(*driver, context, stream, &fills);
}

int NumCopyLaunches(const std::vector<RowCopies>& copies) { return static_cast<int>(PlanFills(copies).size()); }

}  // namespace fusemin::cuda
