// The kernels as the host's compiler makes them, for the emulator.
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/axpy.cuh"
#include "kernels/cuda/best.cuh"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/row_dots.cuh"
#include "kernels/cuda/select.cuh"
#include "kernels/cuda/table.cuh"
