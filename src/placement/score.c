/* Scores of cloud providers, in the order of operations that the contract fixes (8.2). */
#include "placement/placement.h"

const char *const strategy_names[] = {"cost", "performance", "availability", "balanced", NULL};

double provider_score(const struct provider_inputs *in, enum strategy s)
{
    double cost = 1.0 / (1.0 + in->cost_per_hour / 10.0);
    double performance = in->success_rate * (1.0 - in->load);
    double availability = in->availability;
    double queue = 1.0 / (1.0 + in->queue_minutes / 10.0);
    switch (s) {
    case STRATEGY_COST:
        return cost * 0.6 + performance * 0.2 + availability * 0.2;
    case STRATEGY_PERFORMANCE:
        return performance * 0.5 + queue * 0.3 + availability * 0.2;
    case STRATEGY_AVAILABILITY:
        return availability * 0.5 + performance * 0.3 + queue * 0.2;
    case STRATEGY_BALANCED:
        break;
    }
    return (cost + performance + availability + queue) / 4.0;
}
