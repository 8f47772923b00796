// Dropout, the one thing that every residual branch does in the same way.
#include "model/pass.h"

#include "kernels/elementwise.h"

namespace longscan {

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
