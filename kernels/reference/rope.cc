#include <cmath>

#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {
namespace {

double Angle(const RopeArgs& args, int64_t position, int pair) {
  const double exponent = -2.0 * pair / args.n_rot;
  const double divisor =
      args.freq_divisors.empty() ? 1.0 : args.freq_divisors[static_cast<size_t>(pair)];
  return static_cast<double>(position) * args.freq_scale *
         std::pow(static_cast<double>(args.freq_base), exponent) / divisor;
}

void RotateHead(const RopeArgs& args, int64_t position, float* head) {
  const bool adjacent = args.pairing == RopePairing::kAdjacent;
  for (int i = 0; i < args.n_rot / 2; ++i) {
    float& first = adjacent ? head[2 * i] : head[i];
    float& second = adjacent ? head[2 * i + 1] : head[i + args.n_rot / 2];
    const double angle = Angle(args, position, i);
    const double cosine = std::cos(angle), sine = std::sin(angle);
    const double x = first, y = second;
    first = static_cast<float>(x * cosine - y * sine);
    second = static_cast<float>(x * sine + y * cosine);
  }
}

}  // namespace

void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim, TensorView x) {
  for (int64_t t = 0; t < x.n_rows; ++t) {
    for (int64_t c = 0; c < x.n_cols; c += head_dim) {
      RotateHead(args, positions[static_cast<size_t>(t)], x.f32_row(t) + c);
    }
  }
}

}  // namespace thermocline::kernels::reference
