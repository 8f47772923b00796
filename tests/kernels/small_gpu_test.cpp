// What kernels of attention do on a GPU with little shared memory: what fits runs, and what does
// not is refused with the numbers.
#include <gtest/gtest.h>

#include "kernels/cuda/linformer_pieces.h"
#include "tests/cuda_on_cpu/configuration.h"
#include "tests/support/linear_attention_on_cuda.h"
#include "tests/support/linformer_case.h"
#include "tests/support/on_cuda.h"
#include "tests/support/softmax_case.h"

namespace longscan::test {
namespace {

constexpr std::int64_t kSharedBytes = 40 * 1024;

class SmallGpu : public testing::Test {
 protected:
  SmallGpu() : before_(cuda_on_cpu::configuration()) {
    cuda_on_cpu::configuration().block_shared_bytes = kSharedBytes;
    device_.emplace(Device::cuda(0));
  }
  ~SmallGpu() override { cuda_on_cpu::configuration() = before_; }

  Device& device() { return *device_; }

  // Refused with what is needed, which is more than what there is.
  template <class Operation>
  void expect_refusal(std::vector<const OwnedTensor*> tensors, const Operation& operation) {
    OnCuda cuda(device(), std::move(tensors));
    expect_error(ErrorKind::usage, "heads of 200 dimensions does not fit on this GPU, it takes ",
                 [&] { cuda.run(operation); });
    expect_error(ErrorKind::usage, "bytes of shared memory, of which there are 40960, take more",
                 [&] { cuda.run(operation); });
  }

 private:
  cuda_on_cpu::Configuration before_;
  std::optional<Device> device_;
};

TEST_F(SmallGpu, TakesSmallHeads) {
  SoftmaxCase softmax(DType::f32, {33, 2, 16}, true);
  OnCuda with_softmax(device(), softmax.tensors());
  softmax.forward(with_softmax), softmax.backward(with_softmax);
  expect_close(softmax.out, softmax.definition().out, 1e-5);

  const LinformerCase linformer(DType::f32, {33, 2, 16, 7, 33, {}}, Projections::heads);
  OnCuda with_linformer(device(), linformer.tensors());
  linformer.forward(with_linformer), linformer.backward(with_linformer);
  expect_close(linformer.out, linformer.definition(), 1e-5);
}

TEST_F(SmallGpu, RefusesSoftmaxOverLargeHeads) {
  const SoftmaxCase c(DType::f32, {3, 1, 200}, true);
  const SoftmaxCase::Piece all{0, 3};
  expect_refusal(
      c.tensors(),
      SoftmaxAttention{
          .out = c.out, .log_sum = c.log_sum, .queries = c.queries(all), .keys = c.keys(all)});
  expect_refusal(c.tensors(), SoftmaxAttentionBackwardQuery{.d_query = c.part(c.d_joint, 0, all),
                                                            .queries = c.queries(all),
                                                            .keys = c.keys(all),
                                                            .gradient = c.gradient(all)});
  expect_refusal(c.tensors(), SoftmaxAttentionBackwardKeyValue{.d_key = c.part(c.d_joint, 1, all),
                                                               .d_value = c.part(c.d_joint, 2, all),
                                                               .queries = c.queries(all),
                                                               .keys = c.keys(all),
                                                               .gradient = c.gradient(all)});
}

TEST_F(SmallGpu, RefusesLinformerWithLargeHeads) {
  const LinformerCase c(DType::f32, {3, 1, 200, 5, 3, {}}, Projections::heads);
  const LinformerGradient gradient{.d_out = c.d_out, .out = c.out, .log_sum = c.log_sum};
  expect_refusal(c.tensors(), LinformerProject{.projected = c.projected, .keys = c.keys()});
  expect_refusal(c.tensors(),
                 LinformerAttend{.out = c.out, .log_sum = c.log_sum, .queries = c.queries()});
  expect_refusal(c.tensors(),
                 LinformerBackwardProjected{
                     .d_projected = c.d_projected, .queries = c.queries(), .gradient = gradient});
  expect_refusal(c.tensors(), LinformerBackwardQuery{.d_query = c.part(c.d_joint, 0),
                                                     .queries = c.queries(),
                                                     .gradient = gradient});
  expect_refusal(c.tensors(), LinformerBackwardKeys{.d_key = c.part(c.d_joint, 1),
                                                    .d_value = c.part(c.d_joint, 2),
                                                    .d_key_projection = c.d_key_projection,
                                                    .d_value_projection = c.d_value_projection,
                                                    .keys = c.keys(),
                                                    .d_projected = c.d_projected});
}

TEST_F(SmallGpu, RefusesLinearAttentionWithALargeState) {
  AttentionOnCuda gpu(device(), DType::f32,
                      AttentionOperands({3, 1, 64, 64, {}}, {.kind = FeatureKind::elu1}));
  expect_error(ErrorKind::usage, "does not fit on this GPU, it takes ", [&] { gpu.forward(); });
  expect_error(ErrorKind::usage, "of which there are 40960", [&] { gpu.forward(); });
}

TEST_F(SmallGpu, IsFilledByPiecesOfFewDocumentsAndHeads) {
  using linformer_on_gpu::count_pieces;
  const Cuda& cuda = std::get<Cuda>(device().backend());
  const std::int64_t enough = 4 * cuda.multiprocessors();
  EXPECT_EQ(count_pieces(cuda, 1, 1 << 20), enough);
  EXPECT_EQ(count_pieces(cuda, 3, 1 << 20), (enough + 2) / 3);
  EXPECT_EQ(count_pieces(cuda, enough, 1 << 20), 1);
  EXPECT_EQ(count_pieces(cuda, 1, 1023), 3);
  EXPECT_EQ(count_pieces(cuda, 1, 0), 1);
}

}  // namespace
}  // namespace longscan::test
