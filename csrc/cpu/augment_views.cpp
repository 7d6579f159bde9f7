// Compiled once per instruction set; dispatch.cpp chooses among them at run time. The compiler must
// not contract products and sums here (CMakeLists.txt): Pillow rounds both.
#include "sslkernels/augment_views.h"

#include <vector>

#include "arena.h"
#include "blur.h"
#include "colors.h"
#include "exceptions.h"
#include "resize.h"
#include "row.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

constexpr int64_t kSlack = 64;  // bytes that may be read or written beyond a plane

// One thread's views, and the memory for them.
class Worker {
 public:
  explicit Worker(const AugmentViews& problem)
      : p_(problem),
        size_(static_cast<int>(problem.size)),
        pixels_(problem.size * problem.size),
        plane_(pixels_ + kSlack),
        planes_(problem.channels * plane_) {}

  void make(int64_t at) {
    const ViewParameters& v = p_.parameters[at];
    if (p_.channels == 3)
      resize<3>(at % p_.images, v);
    else
      resize<1>(at % p_.images, v);
    const bool blurred = v.sigma > 0 && size_ > 1;
    Changes changes = list(v, blurred);
    int64_t next = 0;
    if (changes.contrast >= 0) {
      const int64_t gray = rewrite(changes, 0, changes.contrast);
      changes.all[changes.contrast].mean = static_cast<float>((2 * gray + pixels_) / (2 * pixels_));
      next = changes.contrast;
    }
    if (blurred) {
      rewrite(changes, next, changes.count);
      const Gaussian gaussian(v.sigma, size_);
      for (int c = 0; c < p_.channels; ++c) blur(plane(c), size_, gaussian, blurred_);
      Changes rest{};
      if (v.solarize < 256) rest.add({Operation::solarize, v.solarize});
      write(rest, 0, at);
    } else {
      write(changes, next, at);
    }
  }

 private:
  struct Changes {
    Change all[8];
    int64_t count = 0, contrast = -1;
    void add(const Change& change) {
      if (change.operation == Operation::contrast) contrast = count;
      all[count++] = change;
    }
  };

  // The colour operations before the blur, or all of them if there is no blur.
  static Changes list(const ViewParameters& v, bool blurred) {
    Changes changes{};
    if (v.grayscale == 2) changes.add({Operation::gray, 0});
    for (int position = 0; position < 4; ++position) {
      const auto operation = Operation(static_cast<int>(v.order) >> 2 * position & 3);
      const float factors[] = {v.brightness, v.contrast, v.saturation};
      if (operation == Operation::hue) {
        const int shift = static_cast<int>(double(v.hue) * 255);
        if (v.hue != 0) changes.add({operation, float((shift + 256) % 256)});
      } else if (factors[int(operation)] != 1) {
        changes.add({operation, factors[int(operation)]});
      }
    }
    if (v.grayscale == 1) changes.add({Operation::gray, 0});
    if (!blurred && v.solarize < 256) changes.add({Operation::solarize, v.solarize});
    return changes;
  }

  uint8_t* plane(int64_t channel) { return &planes_[channel * plane_]; }

  template <int channels>
  void resize(int64_t image, const ViewParameters& v) {
    const int64_t height = static_cast<int64_t>(v.height), width = static_cast<int64_t>(v.width);
    const int64_t bytes = width * channels;
    int64_t stride = p_.sizes[2 * image + 1] * channels;
    const uint8_t* source = p_.data + p_.offsets[image] + static_cast<int64_t>(v.top) * stride +
                            static_cast<int64_t>(v.left) * channels;
    if (bytes < kBytes) {
      narrow_.resize(height * kBytes);
      for (int64_t row = 0; row < height; ++row)
        std::memcpy(&narrow_[row * kBytes], source + row * stride, bytes);
      source = narrow_.data();
      stride = kBytes;
    }
    rows_.prepare(static_cast<int>(height), size_, p_.bicubic);
    columns_.prepare(static_cast<int>(width), size_, p_.bicubic);
    const bool flipped = v.flip > 0;
    if (height > size_ && height - size_ > 2 * (width - size_)) {
      const int64_t between = std::max<int64_t>(bytes, kBytes);
      between_.resize(size_ * between + kSlack);
      resize_columns(source, stride, between, rows_, size_, bytes, between_.data(), between);
      resize_rows<channels>(between_.data(), between, size_, width, columns_, size_, flipped,
                            turned_, planes_.data(), plane_);
    } else {
      const int64_t between = height * size_ + kSlack;
      between_.resize(channels * between);
      resize_rows<channels>(source, stride, height, width, columns_, size_, flipped, turned_,
                            between_.data(), between);
      for (int c = 0; c < channels; ++c)
        resize_columns(&between_[c * between], size_, INT64_MAX, rows_, size_, size_, plane(c),
                       size_);
    }
  }

  Pixels read(int64_t i) {
    const Vec first = load_levels(plane(0) + i);
    if (p_.channels == 1) return {first, first, first};
    return {first, load_levels(plane(1) + i), load_levels(plane(2) + i)};
  }

  // Applies changes to the planes; returns the sum of the resulting grey levels.
  int64_t rewrite(const Changes& changes, int64_t first, int64_t last) {
    int64_t total = 0;
    for (int64_t i = 0; i < pixels_; i += kLanes) {
      Pixels p = read(i);
      for (int64_t k = first; k < last; ++k) p = apply(changes.all[k], p);
      if (first < last) {
        store_levels(plane(0) + i, p.red);
        if (p_.channels == 3) {
          store_levels(plane(1) + i, p.green);
          store_levels(plane(2) + i, p.blue);
        }
      }
      const Vec gray = luma(p);
      if (i + kLanes <= pixels_)
        total += static_cast<int64_t>(horizontal_sum(gray));
      else
        for (int lane = 0; lane < pixels_ - i; ++lane) total += static_cast<int64_t>(gray[lane]);
    }
    return total;
  }

  // Applies the rest, and normalises.
  void write(const Changes& changes, int64_t first, int64_t at) {
    const int64_t offset = at * p_.channels * pixels_;
    switch (p_.dtype) {
      case DType::float32: return write_as(changes, first, static_cast<float*>(p_.out) + offset);
      case DType::bfloat16:
        return write_as(changes, first, static_cast<BFloat16*>(p_.out) + offset);
      case DType::float16: return write_as(changes, first, static_cast<Float16*>(p_.out) + offset);
    }
  }

  template <class T>
  void write_as(const Changes& changes, int64_t first, T* out) {
    const int64_t channel_stride = p_.channels_last ? 1 : pixels_;
    const int64_t pixel_stride = p_.channels_last ? p_.channels : 1;
    for (int64_t i = 0; i < pixels_; i += kLanes) {
      Pixels p = read(i);
      for (int64_t k = first; k < changes.count; ++k) p = apply(changes.all[k], p);
      const Vec levels[] = {p.red, p.green, p.blue};
      const int count = static_cast<int>(std::min<int64_t>(kLanes, pixels_ - i));
      for (int c = 0; c < p_.channels; ++c) {
        const Vec values = fused(levels[c], broadcast(p_.scale[c]), broadcast(p_.shift[c]));
        T* to = out + c * channel_stride + i * pixel_stride;
        if (pixel_stride == 1 && count == kLanes)
          store_lanes(to, values);
        else
          for (int lane = 0; lane < count; ++lane) assign(to[lane * pixel_stride], values[lane]);
      }
    }
  }

  const AugmentViews& p_;
  const int size_;
  const int64_t pixels_, plane_;
  std::vector<uint8_t> planes_, between_, narrow_;
  Filter rows_, columns_;
  Turned turned_;
  Blurred blurred_;
};

}  // namespace

void augment_views(const AugmentViews& problem) {
  std::vector<Worker> workers(problem.threads, Worker(problem));
  Exceptions exceptions;
#pragma omp parallel for schedule(dynamic) num_threads(problem.threads)
  for (int64_t at = 0; at < problem.views * problem.images; ++at)
    exceptions.keep([&] { workers[this_thread()].make(at); });
  exceptions.rethrow();
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
