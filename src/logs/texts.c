/* The room's errors in Chinese; the key is the English text as it stands in the code. */
#include "logs/logs.h"

#include <inttypes.h>

const struct err_text logs_texts_zh[] = {
    {"making the folder of logs %s", "创建日志目录 %s"},
    {"opening the folder of logs %s", "打开日志目录 %s"},
    {"opening %s/lock", "打开 %s/lock"},
    {"locking %s/lock", "锁定 %s/lock"},
    {"the folder of logs %s is used by another process", "日志目录 %s 正被另一个进程使用"},
    {"%" PRId64 " is no attempt", "%" PRId64 " 不是一次尝试"},
    {"%zu bytes of log at once are too many (at most %d)", "一次 %zu 字节的日志太多（最多 %d）"},
    {"the log of attempt %" PRId64 " has %" PRIu64 " bytes, %" PRIu64 " would leave a gap",
     "尝试 %" PRId64 " 的日志有 %" PRIu64 " 字节，从 %" PRIu64 " 开始会留下空缺"},
    {"the log of attempt %" PRId64 " has ended", "尝试 %" PRId64 " 的日志已经结束"},
    {"the bytes for the log of attempt %" PRId64 " are no record at %" PRIu64,
     "尝试 %" PRId64 " 的日志在 %" PRIu64 " 处不是记录"},
    {"the tail of the log of attempt %" PRId64 " is not records",
     "尝试 %" PRId64 " 的日志尾部不是记录"},
    {"compressing the log of attempt %" PRId64 " failed", "压缩尝试 %" PRId64 " 的日志失败"},
    {"the log file %s is damaged at byte %" PRIu64, "日志文件 %s 在第 %" PRIu64 " 字节处损坏"},
    {"the disk of the logs is almost full", "存放日志的磁盘快满了"},
    {"a log cannot be read from there", "不能从那里读取日志"},
    {"reading the log of attempt %" PRId64, "读取尝试 %" PRId64 " 的日志"},
    {"reading the log %s", "读取日志 %s"},
    {"writing the log %s", "写入日志 %s"},
    {"syncing the log %s", "同步日志 %s"},
    {"opening the log %s", "打开日志 %s"},
    {"making the log %s", "创建日志 %s"},
    {"cutting the log %s", "截断日志 %s"},
    {"renaming the log %s", "重命名日志 %s"},
    {"removing the log %s", "删除日志 %s"},
    {"making the log folder %s", "创建日志目录 %s"},
    {"syncing the log folder %s", "同步日志目录 %s"},
    {0},
};
