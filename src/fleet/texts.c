/* The texts of this room in Chinese. */
#include "fleet/fleet_parts.h"

const struct err_text fleet_texts[] = {
    {"%s is held by %s %lld", "%s 正被 %s %lld 占用"},
    /* stored: events and why a node is as it is */
    {"node %s answers", "节点 %s 已应答"},
    {"node %s: %s", "节点 %s：%s"},
    {"%s found: %s", "发现 %s：%s"},
    {"it has joined and its agent has not connected yet", "已加入，代理尚未连接"},
    {"the server was started and this node has not come back yet",
     "服务器已启动，此节点尚未重新连接"},
    {"this node was removed from the fleet", "此节点已从集群移除"},
    {"no such token", "没有这个令牌"},
    {"no node n-%lld", "没有节点 n-%lld"},
    {"a node's name has 1 to %d letters, digits, dots, dashes or underscores",
     "节点名由 1 到 %d 个字母、数字、点、连字符或下划线组成"},
    {"the join token is not valid, has expired or was used up; make another one: drover agent "
     "token",
     "加入令牌无效、已过期或已用完，请重新生成：drover agent token"},
    {"this join token is for nodes named %s, not %s; give the agent another name with --name",
     "此加入令牌只用于名为 %s 的节点，而不是 %s；请用 --name 指定另一个名字"},
    {"there is a node named %s already: join with another --name, or remove that one first: drover "
     "agent remove %s",
     "已有名为 %s 的节点：请用 --name 指定另一个名字，或先移除它：drover agent remove %s"},
    {"this node was removed from the fleet; let it join again with a new token",
     "此节点已从集群移除，请用新的令牌重新加入"},
    {"this server does not know the agent's credential; let it join again with a new token",
     "服务器不认识此代理的凭据，请用新的令牌重新加入"},
    {"too many agents come at once; try again in %d s", "同时连接的代理过多，请在 %d 秒后重试"},
    {"agent %.40s is too old for this server (link %lld, the server has %d): update it",
     "代理 %.40s 对此服务器来说太旧（链路版本 %lld，服务器为 %d），请更新代理"},
    {"agent %.40s is too new for this server (link %lld, the server has %d): update the server "
     "first",
     "代理 %.40s 对此服务器来说太新（链路版本 %lld，服务器为 %d），请先更新服务器"},
    {0},
};
