/* Scopes: a tree of fibers. A scope counts the fibers below it too, so that joining is one number;
 * cancelling walks the tree without recursion, in order of creation. */
#include "reactor/internal.h"

#include <assert.h>

static void scope_prepare(struct scope *scope, struct reactor *reactor, struct scope *parent)
{
    *scope = (struct scope) { .reactor = reactor, .parent = parent };
    TAILQ_INIT(&scope->fibers);
    TAILQ_INIT(&scope->children);
}

void scope_init_root(struct scope *scope, struct reactor *reactor)
{
    scope_prepare(scope, reactor, NULL);
}

void scope_init(struct scope *scope, struct scope *parent)
{
    struct fiber *owner = fiber_running();
    scope_prepare(scope, parent->reactor, parent);
    scope->owner = owner;
    owner->scopes_owned++;
    scope->cancelled = parent->cancelled;
    TAILQ_INSERT_TAIL(&parent->children, scope, siblings);
}

enum status scope_spawn(struct scope *scope, const char *name, void (*function)(void *),
                        void *argument)
{
    if (scope->cancelled) return STATUS_CANCELLED;
    enum status status = fiber_start(scope, name, function, argument);
    if (status != STATUS_OK) return status;
    for (struct scope *above = scope; above != NULL; above = above->parent) above->fiber_count++;
    return STATUS_OK;
}

void scope_fiber_ended(struct scope *scope, struct fiber *fiber)
{
    TAILQ_REMOVE(&scope->fibers, fiber, members);
    for (struct scope *above = scope; above != NULL; above = above->parent) {
        assert(above->fiber_count > 0);
        above->fiber_count--;
        if (above->fiber_count == 0 && above->joiner != NULL) fiber_wake(above->joiner, STATUS_OK);
    }
}

static void scope_cancel_fibers(struct scope *scope)
{
    scope->cancelled = true;
    struct fiber *fiber;
    TAILQ_FOREACH (fiber, &scope->fibers, members) {
        if (fiber->shield_count == 0) fiber_wake(fiber, STATUS_CANCELLED);
    }
}

/* The scope after SCOPE in a walk of the tree below TOP, parents before children. */
static struct scope *scope_next(struct scope *scope, struct scope *top)
{
    struct scope *next = TAILQ_FIRST(&scope->children);
    while (next == NULL && scope != top) {
        next = TAILQ_NEXT(scope, siblings);
        scope = scope->parent;
    }
    return next;
}

void scope_cancel(struct scope *scope)
{
    if (scope->cancelled) return;
    for (struct scope *below = scope; below != NULL; below = scope_next(below, scope)) {
        if (!below->cancelled) scope_cancel_fibers(below);
    }
}

/* Let go of the scopes below an ended one that their owners have not joined yet: nothing runs in
 * them, and nothing will. */
static void scope_detach_children(struct scope *scope)
{
    struct scope *child;
    while ((child = TAILQ_FIRST(&scope->children)) != NULL) {
        TAILQ_REMOVE(&scope->children, child, siblings);
        child->parent = NULL;
        child->cancelled = true;
    }
}

void scope_join(struct scope *scope)
{
    struct fiber *fiber = fiber_running();
    if (scope->owner == NULL) return; /* joined before */
    fiber->shield_count++;
    while (scope->fiber_count > 0) {
        assert(scope->joiner == NULL);
        scope->joiner = fiber;
        (void)fiber_park(fiber, DEADLINE_NEVER);
        scope->joiner = NULL;
    }
    fiber->shield_count--;
    scope_detach_children(scope);
    if (scope->parent != NULL) TAILQ_REMOVE(&scope->parent->children, scope, siblings);
    scope->parent = NULL;
    scope->cancelled = true;
    assert(scope->owner->scopes_owned > 0);
    scope->owner->scopes_owned--;
    scope->owner = NULL;
}

struct fiber *scope_take_fiber(struct scope *top)
{
    for (struct scope *scope = top; scope != NULL; scope = scope_next(scope, top)) {
        struct fiber *fiber = TAILQ_FIRST(&scope->fibers);
        if (fiber == NULL) continue;
        TAILQ_REMOVE(&scope->fibers, fiber, members);
        return fiber;
    }
    return NULL;
}
