// What all layers have in common: the shard where the device can read it, and dropout.
#include "model/pass.h"

#include <vector>

#include "kernels/elementwise.h"

namespace longscan {

namespace {

template <class T>
Tensor on_device(std::span<const T> values, Device& device, Arena& arena) {
  const Tensor view = Pass::view_of(values);
  if (device.on_host() || values.empty()) return view;
  const Tensor copy = arena.take(view.dtype, {view.shape[0]});
  device.upload(copy, view.data);
  return copy;
}

Tensor documents_of(const Shard& shard, Device& device, Arena& arena) {
  std::vector<std::int64_t> places(shard.positions.size());
  for (std::size_t i = 0; i < places.size(); ++i) {
    places[i] = shard.first_token + static_cast<std::int64_t>(i) - shard.positions[i];
  }
  const Tensor documents = arena.take(DType::i64, {shard.size()});
  device.upload(documents, places.data());
  return documents;
}

}  // namespace

ShardTensors tensors_of(const Shard& shard, const ModelOptions& options, Device& device,
                        Arena& arena) {
  ShardTensors line{.tokens = on_device(shard.tokens, device, arena),
                    .targets = on_device(shard.targets, device, arena),
                    .positions = on_device(shard.positions, device, arena),
                    .document_starts = on_device(shard.document_starts, device, arena),
                    .attended = on_device(shard.attended, device, arena),
                    .key_mask = {},
                    .document = {}};
  if (!shard.attended.empty()) line.key_mask = line.attended;
  if (options.first_with(AttentionKind::softmax) < options.layers) {
    line.document = documents_of(shard, device, arena);
  }
  return line;
}

Tensor dropout_step_of(const DropoutPlan& dropout, const ModelOptions& options, Device& device,
                       Arena& arena) {
  const auto sites = static_cast<std::uint64_t>(2 * options.layers + 1);
  const std::uint64_t step = dropout.line * sites;
  const Tensor on_device = arena.take(DType::i64, {1});
  device.upload(on_device, &step);
  return on_device;
}

void Pass::drop(const Tensor& out, const Tensor& in, std::int64_t site) const {
  device.run(Dropout{
      .out = out,
      .in = in,
      .rate = dropout.rate,
      .key = {dropout.seed, RandomPurpose::dropout, static_cast<std::uint64_t>(site)},
      .step = dropout_step,
      .first_token = shard.first_token,
  });
}

}  // namespace longscan
