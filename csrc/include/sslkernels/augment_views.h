// Views of images on the CPU: crop, resize, flip, colours, blur, normalise. The steps are defined
// in sslkernels/primitives/augment_views/README.md.
#pragma once

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

// A row of the parameter tensor.
struct ViewParameters {
  float top, left, height, width, flip, order, brightness, contrast, saturation, hue, grayscale,
      sigma, solarize;
};

struct AugmentViews {
  const uint8_t* data;               // of all images, rows of pixels of interleaved channels
  const int64_t* offsets;            // (images,)
  const int64_t* sizes;              // (images, 2): height, width
  const ViewParameters* parameters;  // (views, images)
  int64_t views, images, channels, size;
  bool bicubic;        // else bilinear
  const float* scale;  // per channel: the view is level · scale + shift
  const float* shift;
  void* out;  // (views, images, channels, size, size), or with channels last
  DType dtype;
  bool channels_last;
  int threads;
};

void augment_views(const AugmentViews& problem);

}  // namespace sslkernels::cpu
