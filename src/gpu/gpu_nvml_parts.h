/* What the files that read NVIDIA's library share: the loaded library, its symbols and how they are
 * called. Not for other rooms. Threads: one. */
#ifndef GPU_GPU_NVML_PARTS_H
#define GPU_GPU_NVML_PARTS_H

#include "gpu/gpu_nvml.h"

#include "gpu/gpu_source.h"

enum nvml_code {
    NVML_SUCCESS = 0,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_TIMEOUT = 10,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_GPU_IS_LOST = 15,
    NVML_RESET_REQUIRED = 16,
    NVML_LIB_RM_VERSION_MISMATCH = 18,
};

/* One list of what this program calls: X(SYMBOL, needed, best version, older, first). */
#define NVML_SYMBOLS(X)                                                                            \
    X(INIT, true, "nvmlInit_v2", "nvmlInit", NULL)                                                 \
    X(SHUTDOWN, true, "nvmlShutdown", NULL, NULL)                                                  \
    X(DRIVER_VERSION, false, "nvmlSystemGetDriverVersion", NULL, NULL)                             \
    X(CUDA_VERSION, false, "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion",  \
      NULL)                                                                                        \
    X(COUNT, true, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount", NULL)                            \
    X(HANDLE, true, "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex", NULL)           \
    X(NAME, false, "nvmlDeviceGetName", NULL, NULL)                                                \
    X(UUID, false, "nvmlDeviceGetUUID", NULL, NULL)                                                \
    X(MEMORY, true, "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", NULL)                 \
    X(UTILIZATION, false, "nvmlDeviceGetUtilizationRates", NULL, NULL)                             \
    X(TEMPERATURE, false, "nvmlDeviceGetTemperature", NULL, NULL)                                  \
    X(FIELD_VALUES, false, "nvmlDeviceGetFieldValues", NULL, NULL)                                 \
    X(POWER, false, "nvmlDeviceGetPowerUsage", NULL, NULL)                                         \
    X(POWER_LIMIT, false, "nvmlDeviceGetPowerManagementLimit", "nvmlDeviceGetEnforcedPowerLimit",  \
      NULL)                                                                                        \
    X(ECC, false, "nvmlDeviceGetTotalEccErrors", NULL, NULL)                                       \
    X(REMAPPED_ROWS, false, "nvmlDeviceGetRemappedRows", NULL, NULL)                               \
    X(COMPUTE, false, "nvmlDeviceGetComputeRunningProcesses_v3",                                   \
      "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses")           \
    X(GRAPHICS, false, "nvmlDeviceGetGraphicsRunningProcesses_v3",                                 \
      "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses")         \
    X(MPS, false, "nvmlDeviceGetMPSComputeRunningProcesses_v3",                                    \
      "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses")     \
    X(PROCESS_UTILIZATION, false, "nvmlDeviceGetProcessUtilization", NULL, NULL)                   \
    X(CLOCK, false, "nvmlDeviceGetClockInfo", NULL, NULL)                                          \
    X(CLOCK_MAX, false, "nvmlDeviceGetMaxClockInfo", NULL, NULL)                                   \
    X(THROTTLE, false, "nvmlDeviceGetCurrentClocksEventReasons",                                   \
      "nvmlDeviceGetCurrentClocksThrottleReasons", NULL)                                           \
    X(FAN, false, "nvmlDeviceGetFanSpeed", NULL, NULL)                                             \
    X(PERFORMANCE, false, "nvmlDeviceGetPerformanceState", NULL, NULL)                             \
    X(ENCODER, false, "nvmlDeviceGetEncoderUtilization", NULL, NULL)                               \
    X(DECODER, false, "nvmlDeviceGetDecoderUtilization", NULL, NULL)                               \
    X(ENERGY, false, "nvmlDeviceGetTotalEnergyConsumption", NULL, NULL)                            \
    X(POWER_DEFAULT, false, "nvmlDeviceGetPowerManagementDefaultLimit", NULL, NULL)                \
    X(POWER_RANGE, false, "nvmlDeviceGetPowerManagementLimitConstraints", NULL, NULL)              \
    X(THRESHOLD, false, "nvmlDeviceGetTemperatureThreshold", NULL, NULL)                           \
    X(BAR1, false, "nvmlDeviceGetBAR1MemoryInfo", NULL, NULL)                                      \
    X(PCIE_GEN, false, "nvmlDeviceGetCurrPcieLinkGeneration", NULL, NULL)                          \
    X(PCIE_GEN_MAX, false, "nvmlDeviceGetMaxPcieLinkGeneration", NULL, NULL)                       \
    X(PCIE_WIDTH, false, "nvmlDeviceGetCurrPcieLinkWidth", NULL, NULL)                             \
    X(PCIE_WIDTH_MAX, false, "nvmlDeviceGetMaxPcieLinkWidth", NULL, NULL)                          \
    X(PCIE_REPLAYS, false, "nvmlDeviceGetPcieReplayCounter", NULL, NULL)                           \
    X(PCIE_THROUGHPUT, false, "nvmlDeviceGetPcieThroughput", NULL, NULL)                           \
    X(PCI, false, "nvmlDeviceGetPciInfo_v3", NULL, NULL)                                           \
    X(ECC_MODE, false, "nvmlDeviceGetEccMode", NULL, NULL)                                         \
    X(RETIRED, false, "nvmlDeviceGetRetiredPages", NULL, NULL)                                     \
    X(RETIRED_PENDING, false, "nvmlDeviceGetRetiredPagesPendingStatus", NULL, NULL)                \
    X(NVLINK_STATE, false, "nvmlDeviceGetNvLinkState", NULL, NULL)                                 \
    X(NVLINK_VERSION, false, "nvmlDeviceGetNvLinkVersion", NULL, NULL)                             \
    X(NVLINK_ERRORS, false, "nvmlDeviceGetNvLinkErrorCounter", NULL, NULL)                         \
    X(COMPUTE_MODE, false, "nvmlDeviceGetComputeMode", NULL, NULL)                                 \
    X(PERSISTENCE, false, "nvmlDeviceGetPersistenceMode", NULL, NULL)                              \
    X(SERIAL, false, "nvmlDeviceGetSerial", NULL, NULL)                                            \
    X(VBIOS, false, "nvmlDeviceGetVbiosVersion", NULL, NULL)                                       \
    X(ANCESTOR, false, "nvmlDeviceGetTopologyCommonAncestor", NULL, NULL)                          \
    X(MIG_MODE, false, "nvmlDeviceGetMigMode", NULL, NULL)                                         \
    X(MIG_COUNT, false, "nvmlDeviceGetMaxMigDeviceCount", NULL, NULL)                              \
    X(MIG_HANDLE, false, "nvmlDeviceGetMigDeviceHandleByIndex", NULL, NULL)                        \
    X(EVENT_SET, false, "nvmlEventSetCreate", NULL, NULL)                                          \
    X(EVENT_TYPES, false, "nvmlDeviceGetSupportedEventTypes", NULL, NULL)                          \
    X(EVENT_REGISTER, false, "nvmlDeviceRegisterEvents", NULL, NULL)                               \
    X(EVENT_WAIT, false, "nvmlEventSetWait_v2", "nvmlEventSetWait", NULL)

enum symbol {
#define NVML_SYMBOL_ENUM(id, needed, a, b, c) SYM_##id,
    NVML_SYMBOLS(NVML_SYMBOL_ENUM)
#undef NVML_SYMBOL_ENUM
        SYMBOLS
};

enum { DEAD_SEEN_MAX = 64 };

struct nvml {
    void *lib;
    void *at[SYMBOLS];
    const char *name[SYMBOLS];
    int version[SYMBOLS]; /* which of the names it is: 0 the best */
    bool starting;        /* until the first round is complete: waking GPUs takes long */
    int rounds;
    nvml_entering *entering;
    unsigned char *processes; /* PROCESSES_ASKED * PROCESS_BYTES_MOST */
    void *events;             /* the library's event set, once GPUs are registered with it */
    bool registered[GPU_MAX];
    void *devices[GPU_MAX];                 /* as last opened */
    struct gpu_told *slow[GPU_MAX];         /* what does not change from second to second */
    int64_t slow_at_us[GPU_MAX];            /* monotonic; 0: never */
    unsigned long long used_since[GPU_MAX]; /* of the last look at the use by process */
    bool pids_known; /* the pids that the driver names are those of our own /proc */
    struct {
        int64_t pid;
        int round;
    } dead_seen[DEAD_SEEN_MAX];
};

struct reading {
    struct nvml *n;
    int index; /* of the GPU; of its parent for a MIG instance */
    void *device;
    struct gpu_told *told;
};

/* Says that the call is next; false: this library does not have it. */
bool nvml_enter(struct nvml *n, enum symbol s, int gpu);
/* Whole sentences for the known codes, the failed call for the rest. */
void nvml_code_note(char note[GPU_NOTE_SIZE], const char *call, int code);
/* True: the value is there. A code that says the GPU itself is gone makes it an error. */
bool nvml_took(struct reading *r, enum symbol s, int code);
void nvml_read_text(struct reading *r, enum symbol s, char *to, size_t size);
/* gpu_nvml_more.c: what changes with every look, and what seldom does. */
void nvml_read_more(struct reading *r);
void nvml_read_slow(struct reading *r);

/* CALL(n, SYM_NAME, gpu, (void *, char *, unsigned), device, to, size): the library's own code,
 * or "function not found" where this library has none of the versions. */
#define CALL(n, symbol_, gpu_, parameters, ...)                                                    \
    (nvml_enter(n, symbol_, gpu_) ? ((int(*) parameters)(n)->at[symbol_])(__VA_ARGS__)             \
                                  : NVML_FUNCTION_NOT_FOUND)

#endif
