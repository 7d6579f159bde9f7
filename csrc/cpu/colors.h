// Pillow's colour operations on a vector of pixels, in integer levels.
#pragma once

#include "levels.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

struct Pixels {
  Vec red, green, blue;
};

enum class Operation { brightness, contrast, saturation, hue, gray, solarize };

struct Change {
  Operation operation;
  float value;     // a factor, 255ths of a turn, or a threshold
  float mean = 0;  // grey, for contrast
};

inline Vec luma(const Pixels& p) {
  const VecInt sum = __builtin_convertvector(p.red, VecInt) * 19595 +
                     __builtin_convertvector(p.green, VecInt) * 38470 +
                     __builtin_convertvector(p.blue, VecInt) * 7471 + 32768;
  return __builtin_convertvector(sum >> 16, Vec);
}

// Rounded after the product, after the sum, and towards zero.
inline Vec blend(Vec other, Vec x, Vec factor) {
  return truncate(clamp_level(other + factor * (x - other)));
}

// One channel of a colour whose hue is given in 85ths of a sixth of a turn from where that channel
// starts to fall.
inline Vec channel(Vec value, Vec chroma, Vec from) {
  from = from >= 510.0f ? from - 510.0f : from;
  const Vec fallen = min(max(min(from, 340.0f - from), Vec{}), broadcast(85));
  return value - truncate(chroma * fallen * (1.0f / 21675) + 0.5f);
}

// Shifts the hue by some of 255 steps in integer HSV.
inline Pixels shift_hue(const Pixels& p, float shift) {
  const Vec value = max(p.red, max(p.green, p.blue));
  const Vec least = min(p.red, min(p.green, p.blue));
  const Vec chroma = value - least;
  const auto red = p.red == value, green = p.green == value;
  const Vec start = red ? Vec{} : green ? broadcast(2) : broadcast(4);
  const Vec more = red ? p.blue : green ? p.red : p.green;
  const Vec less = red ? p.green : green ? p.blue : p.red;
  // start + more - less as fractions of the chroma, of which one is 1
  const Vec part = (value - (less == least ? more : less)) / max(chroma, broadcast(1));
  const Vec sixths = less == least ? start - 1.0f + part : start + 1.0f - part;
  const Vec turns = sixths / 6.0f + (sixths < 0.0f ? broadcast(1) : Vec{});
  Vec hue = chroma > 0.0f ? truncate(turns * 255.0f) : Vec{};
  const Vec saturation = truncate(chroma / max(value, broadcast(1)) * 255.0f);
  hue += shift;
  hue = hue >= 256.0f ? hue - 256.0f : hue;
  const Vec strength = value * saturation;
  return {channel(value, strength, hue * 2.0f + 425.0f),
          channel(value, strength, hue * 2.0f + 255.0f),
          channel(value, strength, hue * 2.0f + 85.0f)};
}

inline Vec solarize(Vec x, float threshold) { return x >= threshold ? 255.0f - x : x; }

inline Pixels apply(const Change& change, const Pixels& p) {
  const Vec value = broadcast(change.value);
  switch (change.operation) {
    case Operation::brightness:
      return {blend(Vec{}, p.red, value), blend(Vec{}, p.green, value),
              blend(Vec{}, p.blue, value)};
    case Operation::contrast: {
      const Vec mean = broadcast(change.mean);
      return {blend(mean, p.red, value), blend(mean, p.green, value), blend(mean, p.blue, value)};
    }
    case Operation::saturation: {
      const Vec gray = luma(p);
      return {blend(gray, p.red, value), blend(gray, p.green, value), blend(gray, p.blue, value)};
    }
    case Operation::hue: return shift_hue(p, change.value);
    case Operation::gray: {
      const Vec gray = luma(p);
      return {gray, gray, gray};
    }
    case Operation::solarize:
      return {solarize(p.red, change.value), solarize(p.green, change.value),
              solarize(p.blue, change.value)};
  }
  return p;
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
