/* A cuBLASLt without a GPU: libcublasLt.so as far as products of fp32 and bf16 need it. Calls are checked and, with COMPUTE, done on the
   CPU: products of what a type holds, added in fp32. See run.sh. */
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
#include <vector>

#ifndef COMPUTE
#define COMPUTE 0
#endif

enum status { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum type : int32_t { F32 = 0, BF16 = 14 };
enum storage_order : int32_t { BY_COLUMNS = 0, BY_ROWS = 1 };
enum { COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_32F_FAST_TF32 = 77 };
enum { DEFAULT_EPILOGUE = 1 };
/* CUBLASLT_REDUCTION_SCHEME_: how partial sums of a product are added. */
enum { IN_PLACE = 1, AS_COMPUTED = 2, AS_OUTPUT = 4 };

struct layout {
    type of;
    storage_order order;
    uint64_t rows, columns;
    int64_t stride; /* of columns, or of rows */
    int32_t batch;
    int64_t batch_stride;
};
struct operation {
    int32_t compute, scale, pointers, transpose_a, transpose_b, transpose_c, fill, epilogue;
};
struct preference {
    uint32_t reductions;
};
struct heuristic {
    uint64_t algorithm[8]; /* its number */
    size_t workspace;
    status state;
    float waves;
    int reserved[4];
};

static status refuse(status status, const char *why) {
    fprintf(stderr, "cublasLt: %s\n", why);
    return status;
}

/* Sets a field by the number of its attribute. */
template <class T> static status set(T &field, const void *value, size_t size) {
    if (size != sizeof field) return refuse(INVALID_VALUE, "an attribute of another size");
    memcpy(&field, value, size);
    return SUCCESS;
}

static float tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & ~0x1FFFu;
    memcpy(&x, &bits, 4);
    return x;
}

static float read(const void *from, type type, int64_t at) {
    if (type == F32) return ((const float *)from)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)from)[at] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static void write(void *to, type type, int64_t at, float x) {
    if (type == F32) {
        ((float *)to)[at] = x;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &x, 4);
    ((uint16_t *)to)[at] = std::isnan(x) ? 0x7FFF : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static int64_t offset(const layout &it, int64_t batch, int64_t row, int64_t column) {
    return batch * it.batch_stride + (it.order == BY_ROWS ? row * it.stride + column : column * it.stride + row);
}

static status check(const operation *by, const layout *a, const layout *b, const layout *c, const layout *d) {
    if (!by || !a || !b || !c || !d) return refuse(INVALID_VALUE, "a descriptor is missing");
    if (by->compute != COMPUTE_32F && by->compute != COMPUTE_32F_PEDANTIC && by->compute != COMPUTE_32F_FAST_TF32)
        return refuse(NOT_SUPPORTED, "sums that are not fp32");
    if (by->scale != F32 || by->pointers || by->transpose_c || by->epilogue != DEFAULT_EPILOGUE)
        return refuse(NOT_SUPPORTED, "more than alpha op(A) op(B) + beta C with factors of the host in fp32");
    for (const layout *it : {a, b, c, d}) {
        if (it->of != F32 && it->of != BF16) return refuse(NOT_SUPPORTED, "neither fp32 nor bf16");
        if (it->order != BY_COLUMNS && it->order != BY_ROWS) return refuse(NOT_SUPPORTED, "neither by rows nor by columns");
        if (!it->rows || !it->columns) return refuse(INVALID_VALUE, "an empty matrix");
        if (it->stride < (int64_t)(it->order == BY_ROWS ? it->columns : it->rows))
            return refuse(INVALID_VALUE, "a leading dimension is smaller than its matrix");
        if (it->batch != d->batch) return refuse(INVALID_VALUE, "batches of different sizes");
    }
    if (a->of != b->of || c->of != d->of) return refuse(NOT_SUPPORTED, "operands of different types");
    uint64_t m = by->transpose_a ? a->columns : a->rows, inner_a = by->transpose_a ? a->rows : a->columns;
    uint64_t n = by->transpose_b ? b->rows : b->columns, inner_b = by->transpose_b ? b->columns : b->rows;
    if (inner_a != inner_b || d->rows != m || d->columns != n || c->rows != m || c->columns != n)
        return refuse(INVALID_VALUE, "shapes do not fit");
    return SUCCESS;
}

static void multiply(const operation &by, float alpha, const void *a, const layout &la, const void *b, const layout &lb, float beta,
                     const void *c, const layout &lc, void *d, const layout &ld) {
    int64_t m = ld.rows, n = ld.columns, inner = by.transpose_a ? la.rows : la.columns;
    bool rounded = by.compute == COMPUTE_32F_FAST_TF32;
    auto operand = [&](const void *from, const layout &it, bool transposed, int64_t batch, int64_t row, int64_t column) {
        float x = read(from, it.of, transposed ? offset(it, batch, column, row) : offset(it, batch, row, column));
        return rounded ? tf32(x) : x;
    };
    /* By rows, B, and of D only one row: the inner loop runs over contiguous numbers. */
    std::vector<float> all_b(inner * n), sums(n);
    for (int64_t batch = 0; batch < ld.batch; batch++) {
        for (int64_t k = 0; k < inner; k++)
            for (int64_t j = 0; j < n; j++) all_b[k * n + j] = operand(b, lb, by.transpose_b, batch, k, j);
        for (int64_t i = 0; i < m; i++) {
            sums.assign(n, 0);
            for (int64_t k = 0; k < inner; k++) {
                float x = operand(a, la, by.transpose_a, batch, i, k);
                for (int64_t j = 0; j < n; j++) sums[j] += x * all_b[k * n + j];
            }
            for (int64_t j = 0; j < n; j++) {
                float before = beta == 0 ? 0 : beta * read(c, lc.of, offset(lc, batch, i, j));
                write(d, ld.of, offset(ld, batch, i, j), alpha * sums[j] + before);
            }
        }
    }
}

extern "C" {

size_t cublasLtGetVersion() { return 130000; }
status cublasLtCreate(void **handle) { *handle = malloc(1); return SUCCESS; }
status cublasLtDestroy(void *handle) { free(handle); return SUCCESS; }

status cublasLtMatrixLayoutCreate(layout **it, type of, uint64_t rows, uint64_t columns, int64_t stride) {
    *it = new layout{of, BY_COLUMNS, rows, columns, stride, 1, 0};
    return SUCCESS;
}
status cublasLtMatrixLayoutDestroy(layout *it) { delete it; return SUCCESS; }
status cublasLtMatrixLayoutSetAttribute(layout *it, int attribute, const void *value, size_t size) {
    switch (attribute) {
    case 0: return set(it->of, value, size);
    case 1: return set(it->order, value, size);
    case 2: return set(it->rows, value, size);
    case 3: return set(it->columns, value, size);
    case 4: return set(it->stride, value, size);
    case 5: return set(it->batch, value, size);
    case 6: return set(it->batch_stride, value, size);
    default: return refuse(NOT_SUPPORTED, "an unknown attribute of a matrix");
    }
}

status cublasLtMatmulDescCreate(operation **it, int compute, int scale) {
    *it = new operation{compute, scale, 0, 0, 0, 0, 0, DEFAULT_EPILOGUE};
    return SUCCESS;
}
status cublasLtMatmulDescDestroy(operation *it) { delete it; return SUCCESS; }
status cublasLtMatmulDescSetAttribute(operation *it, int attribute, const void *value, size_t size) {
    switch (attribute) {
    case 0: return set(it->compute, value, size);
    case 1: return set(it->scale, value, size);
    case 2: return set(it->pointers, value, size);
    case 3: return set(it->transpose_a, value, size);
    case 4: return set(it->transpose_b, value, size);
    case 5: return set(it->transpose_c, value, size);
    case 7: return set(it->epilogue, value, size);
    default: return refuse(NOT_SUPPORTED, "an unknown attribute of a product");
    }
}

status cublasLtMatmulPreferenceCreate(preference **it) { *it = new preference{IN_PLACE | AS_COMPUTED | AS_OUTPUT}; return SUCCESS; }
status cublasLtMatmulPreferenceDestroy(preference *it) { delete it; return SUCCESS; }
status cublasLtMatmulPreferenceSetAttribute(preference *it, int attribute, const void *value, size_t size) {
    return attribute == 3 ? set(it->reductions, value, size) : SUCCESS;
}

status cublasLtMatmulAlgoGetHeuristic(void *handle, const operation *by, const layout *a, const layout *b, const layout *c,
                                      const layout *d, const preference *preference, int asked, heuristic *results, int *found) {
    *found = 0;
    status status = check(by, a, b, c, d);
    if (status != SUCCESS) return status;
    if (asked < 1) return INVALID_VALUE;
    if (preference->reductions & (IN_PLACE | AS_OUTPUT)) return refuse(NOT_SUPPORTED, "partial sums in the type of the output");
    const char *algorithms = getenv("HRM_FAKE_CUBLAS_ALGORITHMS");
    int count = algorithms ? atoi(algorithms) : 1;
    for (; *found < count && *found < asked; ++*found) results[*found] = {{(uint64_t)*found}};
    return SUCCESS;
}

status cublasLtMatmul(void *handle, const operation *by, const float *alpha, const void *a, const layout *la, const void *b,
                      const layout *lb, const float *beta, const void *c, const layout *lc, void *d, const layout *ld,
                      const uint64_t *algorithm, void *workspace, size_t workspace_size, void *stream) {
    status status = check(by, la, lb, lc, ld);
    if (status != SUCCESS) return status;
    if (!handle || !alpha || !beta || !a || !b || !d || (!c && *beta != 0)) return refuse(INVALID_VALUE, "a pointer is null");
    if (workspace_size && !workspace) return refuse(INVALID_VALUE, "no workspace");
    /* Of several algorithms the second one is the best. */
    if (getenv("HRM_FAKE_CUBLAS_ALGORITHMS") && *algorithm != 1) usleep(20000);
    if (const char *path = getenv("HRM_FAKE_CUDA_LOG")) {
        FILE *log = fopen(path, "a");
        if (!log) return refuse(INVALID_VALUE, "cannot write HRM_FAKE_CUDA_LOG");
        fprintf(log, "cublasLtMatmul %lux%lux%lu algorithm %lu stream %p\n", ld->rows, ld->columns,
                by->transpose_a ? la->rows : la->columns, *algorithm, stream);
        fclose(log);
    }
    if (COMPUTE) multiply(*by, *alpha, a, *la, b, *lb, *beta, c, *lc, d, *ld);
    return SUCCESS;
}
}
