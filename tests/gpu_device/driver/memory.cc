#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

namespace {

constexpr size_t kBoundary = 512;
// Of more, the rest is 0: the pages of the largest chunks of an allocator are then not all there.
constexpr size_t kMaxPoisoned = size_t{64} << 20;

class Device {
 public:
  Device() {
    // Pages come into being when they are touched.
    file_ = memfd_create("stand-in device", MFD_CLOEXEC);
    if (file_ < 0 || ftruncate(file_, kDeviceBytes) != 0) return;
    void* guarded = mmap(nullptr, kDeviceBytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file_, 0);
    void* view = mmap(nullptr, kDeviceBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file_, 0);
    if (guarded == MAP_FAILED || view == MAP_FAILED) return;
    begin_ = reinterpret_cast<uint64_t>(guarded);
    view_ = static_cast<char*>(view);
  }

  uint64_t Allocate(size_t size) {
    if (view_ == nullptr) return 0;
    size = (size + kBoundary - 1) / kBoundary * kBoundary;
    if (size == 0) size = kBoundary;
    // The first gap that is large enough.
    uint64_t at = begin_;
    for (const auto& [begin, bytes] : allocated_) {
      if (begin - at >= size) break;
      at = begin + bytes;
    }
    if (at + size > begin_ + kDeviceBytes) return 0;
    allocated_[at] = size;
    used_ += size;
    memset(view_ + (at - begin_), 0xFF, size < kMaxPoisoned ? size : kMaxPoisoned);
    return at;
  }

  bool Free(uint64_t address) {
    const auto found = allocated_.find(address);
    if (found == allocated_.end()) return false;
    fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, address - begin_, found->second);
    used_ -= found->second;
    allocated_.erase(found);
    return true;
  }

  bool Find(uint64_t address, uint64_t* begin, size_t* size) const {
    auto next = allocated_.upper_bound(address);
    if (next == allocated_.begin()) return false;
    --next;
    *begin = next->first;
    *size = next->second;
    return address < *begin + *size;
  }

  char* View(uint64_t address) const { return view_ + (address - begin_); }
  size_t used() const { return used_; }

 private:
  int file_ = -1;
  uint64_t begin_ = 0;
  char* view_ = nullptr;
  size_t used_ = 0;
  std::map<uint64_t, size_t> allocated_;
};

struct Devices {
  std::mutex mutex;
  Device devices[kMaxDevices];
};

Devices& All() {
  static Devices& all = *new Devices();
  return all;
}

}  // namespace

uint64_t AllocateOnDevice(int device, size_t size) {
  const std::lock_guard<std::mutex> lock(All().mutex);
  return All().devices[device].Allocate(size);
}

bool FreeOnDevice(uint64_t address) {
  const std::lock_guard<std::mutex> lock(All().mutex);
  for (Device& device : All().devices) {
    if (device.Free(address)) return true;
  }
  return false;
}

bool FindAllocation(uint64_t address, uint64_t* begin, size_t* size, int* device) {
  const std::lock_guard<std::mutex> lock(All().mutex);
  for (*device = 0; *device < kMaxDevices; ++*device) {
    if (All().devices[*device].Find(address, begin, size)) return true;
  }
  return false;
}

size_t FreeBytes(int device) {
  const std::lock_guard<std::mutex> lock(All().mutex);
  return kDeviceBytes - All().devices[device].used();
}

char* stand_in_view(uint64_t address, size_t size) {
  const std::lock_guard<std::mutex> lock(All().mutex);
  for (const Device& device : All().devices) {
    uint64_t begin = 0;
    size_t bytes = 0;
    if (device.Find(address, &begin, &bytes)) {
      return address + size <= begin + bytes ? device.View(address) : nullptr;
    }
  }
  return nullptr;
}
