// y = a*x + y on the GPU, checked on the CPU. For hosts with the CUDA toolkit:
//   nvcc -O2 -o saxpy examples/cuda_saxpy.cu
//   build/drover submit --gpus 1 --follow -- "$PWD/saxpy" 200
// The argument is how many rounds over 256 MiB it does (default 100).
#include <cstdio>
#include <cstdlib>
#include <vector>

#define TRY(call)                                                                                  \
    do {                                                                                           \
        cudaError_t result = (call);                                                               \
        if (result != cudaSuccess) {                                                               \
            std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(result));                   \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

__global__ void saxpy(size_t n, float a, const float *x, float *y)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x)
        y[i] = a * x[i] + y[i];
}

int main(int argc, char **argv)
{
    const size_t n = 32u << 20; // 128 MiB for each of x and y
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
    int devices = 0;
    TRY(cudaGetDeviceCount(&devices));
    for (int d = 0; d < devices; d++) {
        cudaDeviceProp device;
        TRY(cudaGetDeviceProperties(&device, d));
        std::printf("GPU %d: %s, %zu MiB\n", d, device.name, (size_t)(device.totalGlobalMem >> 20));
    }
    std::vector<float> host(n, 1.0f);
    float *x, *y;
    TRY(cudaMalloc(&x, n * sizeof(float)));
    TRY(cudaMalloc(&y, n * sizeof(float)));
    TRY(cudaMemcpy(x, host.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    TRY(cudaMemset(y, 0, n * sizeof(float)));
    cudaEvent_t begin, end;
    TRY(cudaEventCreate(&begin));
    TRY(cudaEventCreate(&end));
    TRY(cudaEventRecord(begin));
    for (int r = 1; r <= rounds; r++) {
        saxpy<<<1024, 256>>>(n, 0.5f, x, y);
        if (r % 50 == 0 || r == rounds) {
            TRY(cudaDeviceSynchronize());
            std::printf("round %d/%d\n", r, rounds);
            std::fflush(stdout);
        }
    }
    TRY(cudaEventRecord(end));
    TRY(cudaEventSynchronize(end));
    float ms = 0;
    TRY(cudaEventElapsedTime(&ms, begin, end));
    TRY(cudaMemcpy(host.data(), y, n * sizeof(float), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        if (host[i] != 0.5f * rounds) { // exact: halves of small whole numbers
            std::fprintf(stderr, "y[%zu] is %f, not %f\n", i, host[i], 0.5f * rounds);
            return 1;
        }
    }
    std::printf("right; %.0f GB/s\n", 3.0 * n * sizeof(float) * rounds / (ms * 1e6));
    return 0;
}
