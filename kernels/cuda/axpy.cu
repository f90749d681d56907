// Sums of neuron rows, as nvcc makes them.
#include "kernels/cuda/axpy.cuh"
