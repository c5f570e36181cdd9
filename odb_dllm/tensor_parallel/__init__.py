"""One model over several processes: every rank holds a share of each layer's heads and units, rank 0 decides.

``load_model(..., tensor_parallel=N)`` starts N - 1 followers. Rank 0 runs scheduler and samplers and tells the others
each batch of requests; they run the same forwards over their shares and never decide anything. Partial results are
summed after the attention's and the MLP's last product (arXiv 1909.08053, section 3), logits joined by vocabulary.

- ``sharding``: which part of each weight a rank holds
- ``layers``: linear layers whose results the ranks complete together
- ``peers``: how the ranks sum and gather
- ``group``: rank 0's side, which starts, tells and ends the followers
- ``follower``: the loop of the others
- ``leader``: the engine on rank 0
"""
