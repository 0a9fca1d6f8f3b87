/* Matrix products of a warp. The elements of a fragment are dealt out to the lanes in rows: which element a lane has is nowhere
   promised on a GPU either. Sums are exact products added in fp32, in order: a tensor core adds in another order, and cuts off. */
#pragma once
#include "small_floats.h"

namespace nvcuda::wmma {
struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32;
}

template <class T> struct number {
    typedef T type;
    typedef float sum;
};
template <> struct number<precision::tf32> {
    typedef float type;
    typedef float sum;
};
template <> struct number<signed char> {
    typedef signed char type;
    typedef int sum;
};
template <> struct number<unsigned char> {
    typedef unsigned char type;
    typedef int sum;
};
template <> struct number<int> {
    typedef int type;
    typedef int sum;
};

template <class Use, int M, int N, int K> struct shape;
template <int M, int N, int K> struct shape<matrix_a, M, N, K> { enum { ROWS = M, COLUMNS = K }; };
template <int M, int N, int K> struct shape<matrix_b, M, N, K> { enum { ROWS = K, COLUMNS = N }; };
template <int M, int N, int K> struct shape<accumulator, M, N, K> { enum { ROWS = M, COLUMNS = N }; };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment : shape<Use, M, N, K> {
    enum { num_elements = fragment::ROWS * fragment::COLUMNS / WARP };
    typename number<T>::type x[num_elements];
    static int first() { return own_lane() * num_elements; }
    static int offset(int own, unsigned stride, bool by_rows) {
        int element = first() + own, row = element / fragment::COLUMNS, column = element % fragment::COLUMNS;
        return by_rows ? row * stride + column : column * stride + row;
    }
};

template <class A, class B> constexpr bool same = false;
template <class A> constexpr bool same<A, A> = true;

inline float __float_to_tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & ~0x1FFFu;
    memcpy(&x, &bits, 4);
    return x;
}

template <class F, class V> void fill_fragment(F &fragment, V value) {
    for (auto &x : fragment.x) x = value;
}

/* A GPU has all lanes read or write at the same time: what one of them wrote before is there, what one writes later is not. */
template <class U, int M, int N, int K, class T, class L, class V>
void load_matrix_sync(fragment<U, M, N, K, T, L> &to, const V *from, unsigned stride, layout_t layout, int line = __builtin_LINE()) {
    meet_warp(line);
    for (int own = 0; own < to.num_elements; own++) to.x[own] = from[to.offset(own, stride, layout == mem_row_major)];
    meet_warp(line);
}
template <class U, int M, int N, int K, class T, class L, class V>
void load_matrix_sync(fragment<U, M, N, K, T, L> &to, const V *from, unsigned stride, int line = __builtin_LINE()) {
    load_matrix_sync(to, from, stride, same<L, row_major> ? mem_row_major : mem_col_major, line);
}
template <int M, int N, int K, class T, class V>
void store_matrix_sync(V *to, const fragment<accumulator, M, N, K, T> &from, unsigned stride, layout_t layout,
                       int line = __builtin_LINE()) {
    meet_warp(line);
    for (int own = 0; own < from.num_elements; own++) to[from.offset(own, stride, layout == mem_row_major)] = from.x[own];
    meet_warp(line);
}

template <int M, int N, int K, class T, class LA, class LB, class S, class R>
void mma_sync(fragment<accumulator, M, N, K, R> &d, const fragment<matrix_a, M, N, K, T, LA> &a,
              const fragment<matrix_b, M, N, K, T, LB> &b, const fragment<accumulator, M, N, K, S> &c, int line = __builtin_LINE()) {
    typedef typename number<T>::sum sum;
    static_assert((M + N) * K * sizeof(sum) <= SLOTS);
    sum *all_a = (sum *)now.threads->slots(), *all_b = all_a + M * K;
    for (int own = 0; own < a.num_elements; own++) all_a[a.first() + own] = a.x[own];
    for (int own = 0; own < b.num_elements; own++) all_b[b.first() + own] = b.x[own];
    meet_warp(line);
    /* The elements of a lane lie in one row. */
    int row = d.first() / N, column = d.first() % N;
    sum sums[d.num_elements];
    for (int own = 0; own < d.num_elements; own++) sums[own] = c.x[own];
    for (int k = 0; k < K; k++)
        for (int own = 0; own < d.num_elements; own++) sums[own] += all_a[row * K + k] * all_b[k * N + column + own];
    for (int own = 0; own < d.num_elements; own++) d.x[own] = sums[own];
}
}
