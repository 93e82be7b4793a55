/* The stack switch; promise and ownership stand in context.h.
 *
 * The note at the end declares indirect-branch tracking and no shadow stack: a switch changes
 * stacks under the return address, so the linker must not mark the program as fit for one. */
    .text

#if defined(__x86_64__)

    .globl context_switch
    .hidden context_switch
    .type context_switch, @function
    .p2align 4
context_switch:
    .cfi_startproc
    endbr64
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size context_switch, . - context_switch

/* rdi: top, rsi: function, rdx: argument. Lays out what context_switch pops: r15 r14 r13 r12 rbx
 * rbp and the return address, then a zero word that ends a debugger's walk. */
    .globl context_prepare
    .hidden context_prepare
    .type context_prepare, @function
    .p2align 4
context_prepare:
    .cfi_startproc
    endbr64
    leaq -64(%rdi), %rax
    movq $0, (%rax)
    movq $0, 8(%rax)
    movq %rsi, 16(%rax)
    movq %rdx, 24(%rax)
    movq $0, 32(%rax)
    movq $0, 40(%rax)
    leaq context_start(%rip), %rcx
    movq %rcx, 48(%rax)
    movq $0, 56(%rax)
    ret
    .cfi_endproc
    .size context_prepare, . - context_prepare

    .type context_start, @function
    .p2align 4
context_start:
    .cfi_startproc
    .cfi_undefined rip
    endbr64
    movq %r12, %rdi
    subq $8, %rsp
    call *%r13
    ud2
    .cfi_endproc
    .size context_start, . - context_start

    .section .note.gnu.property, "a"
    .p2align 3
    .long 4
    .long 16
    .long 5
    .asciz "GNU"
    .long 0xc0000002 /* GNU_PROPERTY_X86_FEATURE_1_AND */
    .long 4
    .long 1 /* IBT */
    .long 0

#elif defined(__aarch64__)

    .globl context_switch
    .hidden context_switch
    .type context_switch, %function
    .p2align 4
context_switch:
    .cfi_startproc
    hint #34 /* bti c */
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .cfi_endproc
    .size context_switch, . - context_switch

/* x0: top, x1: function, x2: argument. */
    .globl context_prepare
    .hidden context_prepare
    .type context_prepare, %function
    .p2align 4
context_prepare:
    .cfi_startproc
    hint #34 /* bti c */
    sub x0, x0, #160
    stp x1, x2, [x0, #0]
    adr x9, context_start
    stp xzr, x9, [x0, #80]
    ret
    .cfi_endproc
    .size context_prepare, . - context_prepare

    .type context_start, %function
    .p2align 4
context_start:
    .cfi_startproc
    .cfi_undefined x30
    mov x0, x20
    blr x19
    brk #1
    .cfi_endproc
    .size context_start, . - context_start

#else
#error "context.S: write the stack switch of this processor"
#endif

    .section .note.GNU-stack, "", %progbits
