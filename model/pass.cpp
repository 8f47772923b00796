// What all layers have in common: where documents begin, and dropout.
#include "model/pass.h"

#include "kernels/elementwise.h"

namespace longscan {

Tensor documents_of(Arena& arena, const Shard& shard) {
  const Tensor documents = arena.take(DType::i64, {shard.size()});
  for (std::int64_t i = 0; i < shard.size(); ++i) {
    documents.as<std::int64_t>()[i] =
        shard.first_token + i - shard.positions[static_cast<std::size_t>(i)];
  }
  return documents;
}

void Pass::drop(const Tensor& out, const Tensor& in, std::int64_t site) const {
  const auto sites = static_cast<std::uint64_t>(2 * options.layers + 1);
  device.run(Dropout{
      .out = out,
      .in = in,
      .rate = dropout.rate,
      .key = {dropout.seed, RandomPurpose::dropout,
              dropout.line * sites + static_cast<std::uint64_t>(site)},
      .first_token = shard.first_token,
  });
}

}  // namespace longscan
