/* The room's errors in Chinese; the key is the English text as it stands in the code. */
#include "placement/trace.h"

#include <inttypes.h>

const struct err_text placement_texts_zh[] = {
    {"more than %d hosts", "主机多于 %d 台"},
    {"a host has 0 to %d GPUs", "一台主机有 0 到 %d 个 GPU"},
    {"more than %d GPU models", "GPU 型号多于 %d 种"},
    {"CPU and memory of a host are not negative", "主机的 CPU 和内存不能为负"},
    {"%s, line %" PRId64 ": more than %d fields or %d bytes",
     "%s 第 %" PRId64 " 行：多于 %d 个字段或 %d 字节"},
    {"%s, line %" PRId64 ": quotes and NUL are not read", "%s 第 %" PRId64 " 行：不支持引号和 NUL"},
    {"%s has no header line", "%s 没有表头行"},
    {"%s has no column %s", "%s 没有列 %s"},
    {"%s, line %" PRId64 ": %s is \"%s\", not a whole number from 0 to %" PRId64,
     "%s 第 %" PRId64 " 行：%s 是 \"%s\"，不是 0 到 %" PRId64 " 之间的整数"},
    {"%s, line %" PRId64 ": more than %d GPU models", "%s 第 %" PRId64 " 行：GPU 型号多于 %d 种"},
    {"%s has more than %d rows", "%s 多于 %d 行"},
    {"%s, line %" PRId64 ": %zu fields, the header has %zu",
     "%s 第 %" PRId64 " 行：%zu 个字段，表头有 %zu 个"},
    {"%s, line %" PRId64 ": gpu_milli is \"%s\" with num_gpu %" PRId64
     "; it is 0 without GPUs, 1 to 1000 of one, 1000 of several",
     "%s 第 %" PRId64 " 行：gpu_milli 是 \"%s\"，num_gpu 是 %" PRId64
     "；没有 GPU 时为 0，一个 GPU 时为 1 到 1000，多个时为 1000"},
    {"%s has no column %s; without times give --arrive-only",
     "%s 没有列 %s；没有时间时请用 --arrive-only"},
    {"%s, line %" PRId64 ": deletion_time %" PRId64 " is before creation_time %" PRId64,
     "%s 第 %" PRId64 " 行：deletion_time %" PRId64 " 早于 creation_time %" PRId64},
    {"there is no node that more could be like", "没有可供仿照的节点"},
    {0},
};
