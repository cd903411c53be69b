"""One metric a file. Each says what it is FOR and how it is SHOWN, and gives every row a value (see engine/prompts/judging.py).

    FOR = "choices"         # "labels": choices that all rows share; "answers": texts
    SHOWN = "percent"       # "points": the same without the sign; "nats"
    BINARY = True           # only where a row is right or wrong
    LOWER = True            # only where less is better

    def values(log_probs_RC, gold_R) -> values_R        # of choices, calibrated
    def values(answers, references) -> values_R         # of answers: a text a row, and the texts that are right

The figure of many rows is the mean of their values, but where a metric has

    def parts(...) -> parts_RK                          # numbers of a row, of the same arguments, that are added up
    def figure(sums_BK) -> figures_B                    # of such sums
"""
