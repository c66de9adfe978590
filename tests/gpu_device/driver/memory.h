// Memory of a device that only the device can touch: at the addresses that programs get a read or write of the host is
// a fault. Copies, and kernels that are interpreted, use a second view of the same pages.
#ifndef FUSEMIN_TESTS_GPU_DEVICE_MEMORY_H_
#define FUSEMIN_TESTS_GPU_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>

constexpr int kMaxDevices = 4;
constexpr size_t kDeviceBytes = size_t{8} << 30;

// `size` bytes of 0xFF, a NaN in every type, at a boundary of 512 bytes; 0 if they are not there.
uint64_t AllocateOnDevice(int device, size_t size);
// Whether an allocation began there.
bool FreeOnDevice(uint64_t address);
// Of the allocation that an address is in: where it begins and its size. Whether there is one.
bool FindAllocation(uint64_t address, uint64_t* begin, size_t* size, int* device);
size_t FreeBytes(int device);

extern "C" {
// Where the host finds [address, +size), all of one allocation, or nullptr.
char* stand_in_view(uint64_t address, size_t size);
}

#endif  // FUSEMIN_TESTS_GPU_DEVICE_MEMORY_H_
