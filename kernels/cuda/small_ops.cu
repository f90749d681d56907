// The small ops, and the table of all, as nvcc makes them.
#include "kernels/cuda/best.cuh"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/select.cuh"
#include "kernels/cuda/table.cuh"
