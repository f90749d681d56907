// Attention, as nvcc makes them.
#include "kernels/cuda/attention.cuh"
