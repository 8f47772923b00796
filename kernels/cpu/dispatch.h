// From a tensor's element type at run time to a template's type.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <utility>

#include "kernels/error.h"
#include "kernels/tensor.h"

namespace longscan {

/// Calls `body.operator()<float>()` or `<double>()`: for_float_type(dtype, [&]<class T>() { ... }).
/// Throws internal for any other type.
template <class Body>
decltype(auto) for_float_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return std::forward<Body>(body).template operator()<float>();
    case DType::f64:
      return std::forward<Body>(body).template operator()<double>();
    default:
      break;
  }
  throw Error(ErrorKind::internal, {.what = fmt::format("an operation on {}", name_of(dtype)),
                                    .why = "it takes f32 or f64"});
}

/// The same for integer indices, `std::int32_t` or `std::int64_t`.
template <class Body>
decltype(auto) for_index_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::i32:
      return std::forward<Body>(body).template operator()<std::int32_t>();
    case DType::i64:
      return std::forward<Body>(body).template operator()<std::int64_t>();
    default:
      break;
  }
  throw Error(ErrorKind::internal,
              {.what = fmt::format("an index of {}", name_of(dtype)), .why = "it is i32 or i64"});
}

}  // namespace longscan
