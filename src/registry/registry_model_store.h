/* The store under the model test: one in memory, or the real one on a simulated disk. */
#ifndef UNUM_REGISTRY_REGISTRY_MODEL_STORE_H
#define UNUM_REGISTRY_REGISTRY_MODEL_STORE_H

#include "store/store.h"

/* An empty store; INDEX 0 or 1 are open at once. Aborts when it can't. */
struct store *model_store_open(unsigned index, uint64_t seed);
void model_store_close(unsigned index);

#endif
