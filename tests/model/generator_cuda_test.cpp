// Generation on a GPU draws what it draws on the CPU.
#include <gtest/gtest.h>

#include "dist/thread_communicator.h"
#include "model/generator.h"
#include "tests/support/attention_forms.h"
#include "tests/support/on_cuda.h"
#include "tests/support/trained_once.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 13;

std::vector<std::int32_t> tokens_from(const ModelOptions& model, Device device) {
  std::vector<std::int32_t> tokens;
  run_ranks(1, [&](Communicator& group) {
    Parameters parameters(model, device);
    draw_large_weights(parameters);
    Transformer transformer(model, device, group);
    transformer.draw_features(4, 0);
    Generator generator(transformer, parameters.weights());
    const std::vector<std::int32_t> prompt{1, 5, 2, 7, 7, 3};
    tokens = generator.generate(prompt, -1, 30, {.temperature = 1, .seed = 3}, 0);
  });
  return tokens;
}

TEST(GeneratorOnCuda, DrawsWhatTheCpuDraws) {
  if (!has_cuda()) GTEST_SKIP() << find_cuda_devices().why_none;
  for (const AttentionForm& form : all_attention_forms()) {
    if (!form.causal) continue;
    ModelOptions model = small_model(form, kVocabulary);
    model.dtype = DType::f32;
    EXPECT_EQ(tokens_from(model, Device::cuda(0)), tokens_from(model, Device::cpu(1)))
        << name_of(form);
  }
}

}  // namespace
}  // namespace longscan::test
