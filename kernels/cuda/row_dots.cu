// Products with rows of weights, as nvcc makes them.
#include "kernels/cuda/row_dots.cuh"
