"""What tests share: tables of optimizers and rules, runs, comparisons; in `support.cuda` the interpreter of PTX."""
