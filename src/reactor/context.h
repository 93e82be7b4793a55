/* Context: switch between stacks.
 *
 * Promise: context_switch saves what the calling convention asks a function to preserve, and comes
 * back when someone switches to what it stored. Floating-point control words are not saved: the
 * program never changes them. Written in context.S for x86-64 (System V) and aarch64 (AAPCS64). */
#ifndef UNUM_REACTOR_CONTEXT_H
#define UNUM_REACTOR_CONTEXT_H

/* Store the stack pointer of the caller in *RET_FROM and go on where TO was stored. */
void context_switch(void **ret_from, void *to);

/* A stack pointer that, switched to for the first time, calls FUNCTION(ARGUMENT) on the stack that
 * ends at TOP (16-byte aligned). FUNCTION must not return. */
void *context_prepare(void *top, void (*function)(void *), void *argument);

#endif
