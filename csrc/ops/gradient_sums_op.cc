// GradientSums on the CPU: what is decided over all gradients of a step that takes several FusedSteps.
#include <vector>

#include "backends/cpu/run.h"
#include "backends/cpu/workers.h"
#include "ops/op_names.h"
#include "ops/step_attributes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"

namespace fusemin {
namespace {

using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

class GradientSumsOp : public OpKernel {
 public:
  explicit GradientSumsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    tensorflow::DataType type;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("T", &type));
    OP_REQUIRES_OK(ctx, ToDType(type, &dtype_));
  }

  void Compute(OpKernelContext* ctx) override {
    std::vector<Segment> segments(ctx->num_inputs());
    for (int i = 0; i < ctx->num_inputs(); ++i) {
      segments[i].size = ctx->input(i).NumElements();
      segments[i].gradient = ctx->input(i).data();
    }
    Tensor* out = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, tensorflow::TensorShape({2}), &out));
    std::string ignored;
    const int num_threads = ctx->device()->tensorflow_cpu_worker_threads()->num_threads;
    const cpu::GradientSums sums = cpu::SumGradients(dtype_, cpu::ChosenIsa(&ignored), segments.data(),
                                                     ctx->num_inputs(), num_threads, cpu::RunOnWorkers);
    out->flat<double>()(0) = sums.squares;
    out->flat<double>()(1) = sums.not_finite;
  }

 private:
  DType dtype_;
};

REGISTER_KERNEL_BUILDER(Name(FUSEMIN_OPS "GradientSums").Device(tensorflow::DEVICE_CPU), GradientSumsOp);

}  // namespace
}  // namespace fusemin
