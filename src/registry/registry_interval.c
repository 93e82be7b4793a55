#include "registry/registry_interval.h"

#include "base/checksum.h"

#include <assert.h>

static bool holds(const struct registry_interval *interval, struct bytes key)
{
    if (interval->end.size == 0 && !interval->infinite) return bytes_equal(interval->start, key);
    if (bytes_compare(key, interval->start) < 0) return false;
    return interval->infinite || bytes_compare(key, interval->end) < 0;
}

/* Does it reach to KEY or further? Ends are exclusive, but the end of a single key is the key. */
static bool reaches(const struct registry_interval *interval, struct bytes key)
{
    if (interval->infinite) return true;
    if (interval->end.size == 0) return bytes_compare(interval->start, key) >= 0;
    return bytes_compare(interval->end, key) > 0;
}

/* Does A end behind B? */
static bool ends_later(const struct registry_interval *a, const struct registry_interval *b)
{
    if (a->infinite || b->infinite) return a->infinite && !b->infinite;
    struct bytes a_end = a->end.size == 0 ? a->start : a->end;
    struct bytes b_end = b->end.size == 0 ? b->start : b->end;
    int order = bytes_compare(a_end, b_end);
    /* At the same key, a single one includes it. */
    return order > 0 || (order == 0 && a->end.size == 0 && b->end.size != 0);
}

static int compare(const struct registry_interval *a, const struct registry_interval *b)
{
    int order = bytes_compare(a->start, b->start);
    if (order != 0) return order;
    return a->number < b->number ? -1 : a->number > b->number;
}

static void update(struct registry_interval *node)
{
    const struct registry_interval *furthest = node;
    if (node->left != NULL && ends_later(node->left->furthest, furthest)) {
        furthest = node->left->furthest;
    }
    if (node->right != NULL && ends_later(node->right->furthest, furthest)) {
        furthest = node->right->furthest;
    }
    node->furthest = furthest;
}

static void replace_child(struct registry_intervals *intervals, struct registry_interval *parent,
                          struct registry_interval *old, struct registry_interval *new)
{
    if (parent == NULL) {
        intervals->root = new;
    } else if (parent->left == old) {
        parent->left = new;
    } else {
        parent->right = new;
    }
    if (new != NULL) new->parent = parent;
}

/* Put NODE in its parent's place, and the parent below it. */
static void rotate_up(struct registry_intervals *intervals, struct registry_interval *node)
{
    struct registry_interval *parent = node->parent;
    replace_child(intervals, parent->parent, parent, node);
    if (parent->left == node) {
        parent->left = node->right;
        if (node->right != NULL) node->right->parent = parent;
        node->right = parent;
    } else {
        parent->right = node->left;
        if (node->left != NULL) node->left->parent = parent;
        node->left = parent;
    }
    parent->parent = node;
    update(parent);
    update(node);
}

void registry_interval_insert(struct registry_intervals *intervals,
                              struct registry_interval *interval)
{
    interval->number = ++intervals->next_number;
    /* Not chosen by whoever watches, and the same in every run. */
    interval->priority = hash64(&interval->number, sizeof interval->number, 0);
    interval->left = interval->right = NULL;

    struct registry_interval *parent = NULL;
    struct registry_interval **place = &intervals->root;
    while (*place != NULL) {
        parent = *place;
        place = compare(interval, parent) < 0 ? &parent->left : &parent->right;
    }
    *place = interval;
    interval->parent = parent;
    update(interval);
    while (interval->parent != NULL && interval->parent->priority < interval->priority) {
        rotate_up(intervals, interval);
    }
    for (struct registry_interval *node = interval->parent; node != NULL; node = node->parent) {
        update(node);
    }
}

void registry_interval_remove(struct registry_intervals *intervals,
                              struct registry_interval *interval)
{
    while (interval->left != NULL || interval->right != NULL) {
        struct registry_interval *left = interval->left;
        struct registry_interval *right = interval->right;
        bool left_up = right == NULL || (left != NULL && left->priority > right->priority);
        rotate_up(intervals, left_up ? left : right);
    }
    struct registry_interval *parent = interval->parent;
    replace_child(intervals, parent, interval, NULL);
    interval->parent = NULL;
    for (struct registry_interval *node = parent; node != NULL; node = node->parent) update(node);
}

/* The first in order below NODE that may hold KEY, going down only where something reaches it. */
static struct registry_interval *descend(struct registry_interval *node, struct bytes key)
{
    if (node == NULL || !reaches(node->furthest, key)) return NULL;
    while (node->left != NULL && reaches(node->left->furthest, key)) node = node->left;
    return node;
}

/* The next in order behind NODE under the same condition. */
static struct registry_interval *advance(struct registry_interval *node, struct bytes key)
{
    struct registry_interval *below = descend(node->right, key);
    if (below != NULL) return below;
    while (node->parent != NULL && node->parent->right == node) node = node->parent;
    return node->parent;
}

struct registry_interval *registry_interval_find(const struct registry_intervals *intervals,
                                                 struct bytes key,
                                                 const struct registry_interval *after)
{
    struct registry_interval *node = after == NULL
                                         ? descend(intervals->root, key)
                                         : advance((struct registry_interval *)after, key);
    while (node != NULL && !holds(node, key)) {
        /* All further ones start behind the key. */
        if (bytes_compare(node->start, key) > 0) return NULL;
        node = advance(node, key);
    }
    return node;
}

struct registry_interval *registry_interval_next(const struct registry_intervals *intervals,
                                                 const struct registry_interval *after)
{
    struct registry_interval *node = intervals->root;
    if (after != NULL && after->right == NULL) {
        const struct registry_interval *child = after;
        while (child->parent != NULL && child->parent->right == child) child = child->parent;
        return child->parent;
    }
    if (after != NULL) node = after->right;
    while (node != NULL && node->left != NULL) node = node->left;
    return node;
}
