/* The default policy: of all placements, the one after which the least will stay unused.
 *
 * What a host will leave unused is estimated by playing it forward: SAMPLES sequences of ARRIVALS
 * tasks, drawn from the mix that the fleet has seen, are put onto it one after the other wherever
 * they fit; the GPU thousandths that are then still free, summed over the sequences, are the worth
 * of its state (less is better). A placement costs what it adds to that.
 *
 * The sequences are the same for every state of an epoch, so that two states differ by what they
 * are and not by luck. Not public: policy.c has its row. */
#ifndef PLACEMENT_FORESIGHT_H
#define PLACEMENT_FORESIGHT_H

#include "placement/pack.h"

int64_t foresight_worth(struct pack *p, const struct pack_state *s);
int64_t foresight_score(struct pack *p, const struct pack_state *from, const struct pack_state *to,
                        int64_t before, int64_t after);
void foresight_learned(struct pack *p);

#endif
