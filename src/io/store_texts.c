/* The store's texts in Chinese. Texts that only a bug can cause stay English. */
#include "io/store.h"

const struct err_text store_texts[] = {
    {"shutting down", "正在关闭"},
    {"overloaded: %d changes wait for the database", "负载过高：有 %d 个更改在等待数据库"},
    {"overloaded: no connection for a read became free in %d s",
     "负载过高：%d 秒内没有空闲的数据库读取连接"},
    {"the connection to the database was lost", "与数据库的连接已断开"},
    {"the connection to the database was lost: try again", "与数据库的连接已断开，请重试"},
    {"the connection to the database was lost during the commit: it is unknown whether the change "
     "was made",
     "提交时与数据库的连接断开，无法确定更改是否已生效"},
    {"the database does not answer: try again", "数据库没有响应，请重试"},
    {"the database did not take the change in %d tries", "数据库经过 %d 次尝试仍未接受更改"},
    {"the database takes no writes (%s)", "数据库当前不接受写入（%s）"},
    {"the database address must start with sqlite:/// or postgresql://",
     "数据库地址必须以 sqlite:/// 或 postgresql:// 开头"},
    {"the database address cannot be read%s%s", "无法解析数据库地址%s%s"},
    {"cannot reach the database: %s", "无法连接数据库：%s"},
    {"PostgreSQL %d is too old: 13 is needed", "PostgreSQL %d 版本过旧，至少需要 13"},
    {"another program holds the database (%s)", "数据库正被另一个程序占用（%s）"},
    {"%s is in use by another server (process %s): stop that one first",
     "%s 正被另一个服务器使用（进程 %s），请先停止它"},
    {"%s is damaged (%s), so it is not used: put a backup in its place, or save what can be read "
     "with: sqlite3 %s .recover | sqlite3 saved.db",
     "%s 已损坏（%s），因此不会使用：请用备份替换它，或用以下命令保存还能读出的内容：sqlite3 %s "
     ".recover | sqlite3 saved.db"},
    {"cannot open %s", "无法打开 %s"},
    {"cannot open %s.lock", "无法打开 %s.lock"},
    {"cannot lock %s", "无法锁定 %s"},
    {"the disk of the database is full", "数据库所在磁盘已满"},
    {"database: %s", "数据库：%s"},
    {"database: %s (%s)", "数据库：%s（%s）"},
    {"exists already (%s)", "已存在（%s）"},
    {"something refers to it, or it refers to something that is not there (%s)",
     "它仍被引用，或它引用的对象不存在（%s）"},
    {"it refers to something that is not there", "它引用的对象不存在"},
    {"there is no such row", "没有这样的记录"},
    {"a text must not contain a NUL byte", "文本不能包含 NUL 字节"},
    {"a text is not valid UTF-8", "文本不是有效的 UTF-8"},
    {"a value of %zu bytes is too long", "%zu 字节的值过长"},
    {"migration %lld (%s)", "迁移 %lld（%s）"},
    {"migration %lld (%s) was changed after it had been applied to this database: put it back as "
     "it "
     "was and add a new one",
     "迁移 %lld（%s）在应用于此数据库之后被修改：请恢复原样并添加新的迁移"},
    {"this database was made by a newer version of the program (migration %lld, %s): install that "
     "version or a newer one",
     "此数据库由更新版本的程序创建（迁移 %lld，%s）：请安装该版本或更新的版本"},
    {0},
};
