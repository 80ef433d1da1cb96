"""Training from scratch, approach 1 as a lesson: a tokenizer and a small Llama-style model learnt from a folder of texts.

    job = kit.tuning.pretrain("texts", name="my-lm", size="tiny", steps=500)
    job.wait(); job.metrics(); kit.playground.run([…], model="my-lm")

It is the recipe that made the starter LM, with another kind of row. `python -m llmops_kit.starter lm` and this share, from
`llmops_kit.starter`, the tokenizer (`tokenizer.train_tokenizer`), the network with its hand-written induction heads (`lm.build_model`), the
optimiser, the course of the learning rate and the step itself (`training.build_optimiser`, `decay`, `take_step`), and the batches of random
tokens to copy (`training.copying_batch`). What differs is what the model reads: the starter LM reads instructions and learns their answers
(the loss counts on answers alone); here it reads packed text and learns each next token, which is the same loss with a prompt of one begin
mark and the text as its answer. The sizes `small` and `large` are those of the starter LM; `tiny` is for minutes on a laptop. On a GPU the
same recipe runs in bfloat16 with larger batches, as the starter LM's does.
"""

from llmops_kit.tuning.pretraining.running import train_model as train_model
from llmops_kit.tuning.pretraining.spec import PretrainSpec as PretrainSpec
