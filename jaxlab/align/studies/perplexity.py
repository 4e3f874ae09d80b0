"""C9: the language model is its own reward, and the most probable response is sought."""

import jax
import numpy as np

from jaxlab.align import figures
from jaxlab.align.best_of_n import best_of_n
from jaxlab.align.documents import NUM_TOPICS, document_prompt
from jaxlab.align.rewards import perplexity_reward
from jaxlab.align.speculative import speculative_rejection
from jaxlab.align.studies.models import baseline_rows, judged, language_model, search_settings
from jaxlab.runs import Claim, Run, progress, spread, study_key


def measure(config, run: Run) -> list[Claim]:
    """Perplexity of the chosen response, and the tokens that it took."""
    model = language_model(config, run)
    result = run.once("perplexity", lambda: _search(config, model))
    few, rows = baseline_rows(config), config.n_init
    run.figure("perplexity", figures.perplexity(result, few, rows))
    ratio = rows * config.short_tokens / result["tokens"].mean()
    return [
        Claim(
            "C9",
            "It finds responses of lower perplexity than Best-of-N, at less cost",
            "",
            f"perplexity {result['search'].mean():.3f} with {result['tokens'].mean():,.0f} tokens; "
            f"Best-of-{few} {result['few'].mean():.3f} with {few * config.short_tokens:,}",
            judged(config, result["search"].mean() <= result["few"].mean()),
            detail=f"{NUM_TOPICS} prompts, {config.short_tokens} tokens, alpha = "
            f"{config.alphas[0]:g}, same keys; difference "
            f"{spread(result['search'] - result['few'])}. "
            f"Best-of-{rows} {result['many'].mean():.3f} with {ratio:.1f} times the tokens; mean "
            f"sample {result['mean'].mean():.3f}. Criterion: not above Best-of-{few}.",
        )
    ]


def _search(config, model) -> dict:
    reward = perplexity_reward(model.params, model.cfg)
    settings = search_settings(config, config.alphas[0], config.short_tokens)
    found, tokens, few, many, mean = [], [], [], [], []
    for topic in progress(range(NUM_TOPICS), "perplexity"):
        key, prompt = jax.random.fold_in(study_key(config, 8), topic), document_prompt(topic)
        ours = speculative_rejection(key, model.policy, reward, prompt, settings)
        every = best_of_n(
            key,
            model.policy,
            reward,
            prompt,
            n=config.n_init,
            max_new_tokens=config.short_tokens,
        )
        found.append(-ours.score)
        tokens.append(ours.tokens_computed)
        few.append(-every.all_scores[: baseline_rows(config)].max())
        many.append(-every.score)
        mean.append(-every.all_scores.mean())
    return {
        name: np.array(values)
        for name, values in zip(
            ("search", "tokens", "few", "many", "mean"),
            (found, tokens, few, many, mean),
            strict=True,
        )
    }
