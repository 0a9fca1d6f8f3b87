/* A CUDA driver without a GPU: libcuda.so as far as CubeCL calls it. Memory is the host's, copies copy, kernels do nothing.
   Programs run to their end on a device that looks like an H200; what they compute is noise, but every kernel that they launch has
   been compiled by NVRTC before. See run.sh. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int result;
typedef uint64_t pointer;

enum { SUCCESS = 0, OUT_OF_MEMORY = 2 };

result cuInit(unsigned flags) { return SUCCESS; }
result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
result cuDeviceGet(int *device, int index) { *device = index; return SUCCESS; }
result cuDeviceGetName(char *name, int size, int device) { strncpy(name, "no GPU", size); return SUCCESS; }
result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 150ull << 30; return SUCCESS; }

/* CUdevice_attribute: what an H200 says. */
result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break; /* threads of a block, its x and y */
    case 4: *value = 64; break;                   /* its z */
    case 5: *value = 2147483647; break;           /* blocks, x */
    case 6: case 7: *value = 65535; break;        /* y and z */
    case 8: *value = 49152; break;                /* shared memory of a block */
    case 97: *value = 232448; break;              /* the same, if asked for */
    case 10: *value = 32; break;                  /* warp */
    case 16: *value = 132; break;                 /* multiprocessors */
    case 75: *value = 9; break;                   /* compute capability */
    case 76: *value = 0; break;
    default: *value = 1;
    }
    return SUCCESS;
}
result cuDeviceCanAccessPeer(int *can, int a, int b) { *can = 0; return SUCCESS; }
result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return SUCCESS; }
result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
result cuCtxSetCurrent(void *context) { return SUCCESS; }
result cuCtxGetCurrent(void **context) { *context = (void *)1; return SUCCESS; }
result cuCtxSynchronize(void) { return SUCCESS; }

result cuStreamCreate(void **stream, unsigned flags) { static intptr_t last; *stream = (void *)++last; return SUCCESS; }
result cuStreamDestroy_v2(void *stream) { return SUCCESS; }
result cuStreamSynchronize(void *stream) { return SUCCESS; }
result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
result cuEventCreate(void **event, unsigned flags) { *event = malloc(1); return SUCCESS; }
result cuEventDestroy_v2(void *event) { free(event); return SUCCESS; }
result cuEventRecord(void *event, void *stream) { return SUCCESS; }
result cuEventSynchronize(void *event) { return SUCCESS; }
result cuEventElapsedTime_v2(float *ms, void *start, void *end) { *ms = 1; return SUCCESS; }

result cuMemAlloc_v2(pointer *p, size_t n) { *p = (pointer)calloc(1, n); return *p ? SUCCESS : OUT_OF_MEMORY; }
result cuMemFree_v2(pointer p) { free((void *)p); return SUCCESS; }
result cuMemAllocAsync(pointer *p, size_t n, void *stream) { return cuMemAlloc_v2(p, n); }
result cuMemFreeAsync(pointer p, void *stream) { return cuMemFree_v2(p); }
result cuMemAllocHost_v2(void **p, size_t n) { *p = calloc(1, n); return *p ? SUCCESS : OUT_OF_MEMORY; }
result cuMemFreeHost(void *p) { free(p); return SUCCESS; }
result cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t n, void *stream) { memcpy((void *)to, from, n); return SUCCESS; }
result cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t n, void *stream) { memcpy(to, (void *)from, n); return SUCCESS; }
result cuMemcpyDtoDAsync_v2(pointer to, pointer from, size_t n, void *stream) { memcpy((void *)to, (void *)from, n); return SUCCESS; }
result cuMemcpy2DAsync_v2(const void *copy, void *stream) { return SUCCESS; }

result cuModuleLoadData(void **module, const void *image) { *module = (void *)1; return SUCCESS; }
result cuModuleUnload(void *module) { return SUCCESS; }
result cuModuleGetFunction(void **function, void *module, const char *name) { *function = (void *)1; return SUCCESS; }
result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
result cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *address, const pointer *shape, const pointer *strides,
                              const unsigned *box, const unsigned *steps, int interleave, int swizzle, int l2, int fill) { return SUCCESS; }
result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) { return SUCCESS; }
result cuLaunchKernelEx(const void *config, void *function, void **arguments, void **extra) { return SUCCESS; }
result cuGetErrorName(int error, const char **text) { *text = "error"; return SUCCESS; }
result cuGetErrorString(int error, const char **text) { *text = "an error of the driver without a GPU"; return SUCCESS; }
