// The rules that a model's sizes must keep.
#include "model/options.h"

#include "kernels/error.h"

namespace longscan {

namespace {
void demand(bool holds, const char* option, const char* rule) {
  if (holds) return;
  throw Error(ErrorKind::usage,
              {.what = std::string("model option ") + option + " is out of range", .why = rule});
}
}  // namespace

void ModelOptions::check() const {
  demand(vocabulary > 0, "vocabulary", "it is at least 1");
  demand(width > 0 && layers > 0 && hidden > 0, "width, layers, hidden", "they are at least 1");
  demand(heads > 0 && width % heads == 0, "heads", "it divides width");
  demand(positions != Positions::rotary || head_dim() % 2 == 0, "heads",
         "rotary positions turn pairs, so width / heads is even");
  demand(positions != Positions::sinusoidal || width % 2 == 0, "width",
         "sinusoidal positions come in pairs, so width is even");
  demand(positions != Positions::learned || longest_document > 0, "longest_document",
         "learned positions need a table with an entry for every place in a document");
  demand(dropout >= 0 && dropout < 1, "dropout", "it is in [0, 1)");
  demand(dtype == DType::f32 || dtype == DType::f64, "dtype", "it is f32 or f64");
}

}  // namespace longscan
