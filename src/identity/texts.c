/* The texts of this room, and of the cryptography below it, in Chinese. */
#include "identity/parts.h"

const struct err_text identity_texts[] = {
    /* of events */
    {"account %s %s", "账号 %s %s"},
    {"was made", "已创建"},
    {"was changed", "已修改"},
    {"was deleted", "已删除"},
    {"the cryptography library does not start", "加密库无法启动"},
    {"too many people sign in at this moment; try again", "当前登录的人太多，请稍后再试"},
    {"there is no memory to check a password; try again", "内存不足，无法校验密码，请稍后再试"},
    {"cannot make the key file %s", "无法创建密钥文件 %s"},
    {"cannot write the key file %s", "无法写入密钥文件 %s"},
    {"cannot make the key file %s durable", "无法将密钥文件 %s 写入磁盘"},
    {"cannot read the key file %s", "无法读取密钥文件 %s"},
    {"cannot open the key file %s", "无法打开密钥文件 %s"},
    {"everyone may open the key file %s; chmod 600 it",
     "所有人都能打开密钥文件 %s，请执行 chmod 600"},
    {"the key file %s does not hold 64 hexadecimal digits",
     "密钥文件 %s 的内容不是 64 位十六进制数"},
    {"a stored secret does not open with this key file", "已保存的机密无法用此密钥文件解开"},
    {"%s is not the key file of this database; put the right one there",
     "%s 不是此数据库的密钥文件，请放入正确的文件"},
    {"the credential is not valid, has ended or was revoked; sign in again",
     "凭据无效、已过期或已被吊销，请重新登录"},
    {"the credential must be looked up", "需要查询凭据"},
    {"the ticket must be looked up", "需要查询一次性票据"},
    {"the e-mail or the password is wrong", "邮箱或密码错误"},
    {"too many failed sign-ins for this account; try again in %d s",
     "此账户登录失败次数过多，请在 %d 秒后重试"},
    {"a password has at most %d bytes", "密码最多 %d 字节"},
    {"a password must be UTF-8 text", "密码必须是 UTF-8 文本"},
    {"a password has at least %d characters", "密码至少 %d 个字符"},
    {"a password must not contain the e-mail address", "密码不能包含邮箱地址"},
    {"registration is closed here; ask an administrator for an account",
     "此处不开放注册，请向管理员申请账户"},
    {"this link was used already, is too old, or was never one; ask for another",
     "此链接已使用、已过期或无效，请重新申请"},
    {"this address is verified already", "此邮箱已经验证过"},
    {"A new password for Drover", "重置 Drover 密码"},
    {"Somebody asked for a new password for the Drover account %s.\n"
     "Choose it here within an hour:\n\n%s\n\n"
     "Was it not you? Do nothing: the old password goes on.\n",
     "有人为 Drover 账户 %s 申请了新密码。\n请在一小时内打开以下链接设置：\n\n%s\n\n"
     "如果不是您本人操作，无需处理，原密码仍然有效。\n"},
    {"Is this your address?", "请确认您的邮箱"},
    {"The Drover account %s uses this address.\n"
     "Confirm within an hour that it is yours:\n\n%s\n\n"
     "Do you know nothing of it? Do nothing.\n",
     "Drover 账户 %s 使用了此邮箱。\n请在一小时内打开以下链接确认：\n\n%s\n\n"
     "如果您不知情，无需处理。\n"},
    {"no such user", "没有这个用户"},
    {"no such session", "没有这个登录会话"},
    {"your role does not have this permission; an administrator can give it",
     "您的角色没有此权限，可由管理员授予"},
    {"no such token", "没有这个令牌"},
    {"there is an account with this e-mail", "此邮箱已被注册"},
    {"this is the last administrator: make another one first",
     "这是最后一个管理员，请先指定另一个管理员"},
    {"this credential is not a session", "此凭据不是登录会话"},
    {"a token cannot make tokens; sign in for that", "令牌不能创建令牌，请登录后再试"},
    {"a token cannot change the e-mail or password of its account; sign in",
     "令牌不能修改其账户的邮箱或密码，请登录后再试"},
    {"%s: \"%s\" is not a network such as 10.0.0.0/8", "%s：“%s”不是形如 10.0.0.0/8 的网段"},
    {"AUTH_MODE=open lets everyone who can connect run commands here; listen on 127.0.0.1, or set "
     "ALLOW_OPEN=yes-i-mean-it",
     "AUTH_MODE=open 会让所有能连接的人在此执行命令；请监听 127.0.0.1，或设置 "
     "ALLOW_OPEN=yes-i-mean-it"},
    {0},
};
