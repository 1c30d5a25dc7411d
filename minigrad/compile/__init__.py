"""The compiled form of a scan: the loop over time derived from the tape of one of its steps.

    trace          one step, run on placeholders, becomes a program
    recall         steps that always do the same, traced once
    program        what a program is; printing one, and running one with Tensors
    differentiate  the program of the step's gradient, from the rule table
    passes         rewrites of programs, each a function
    lower          where every value lives, what is computed before, in and after the loop
    numpy_backend  the lowered loops as Python source over NumPy, without an allocation in the loop
    numba_backend  the same loops with elementwise work fused into kernels (optional); loop_body, what is in their loops
    tiles          its products with weights that stay as they are: packed once, multiplied in vector registers
    parts          rows of a batch shared out among threads
    gather, rows   kernels outside of loops: of an embedding's table and its gradient, and of cross-entropy
    run            the compiled scan: one node on the tape of whoever called it
"""
