"""Judging a forecaster so that nobody can fool himself: walk-forward folds, baselines, intervals, words."""

from training.judgement.html import render_html
from training.judgement.judge import judge_folds
from training.judgement.results import About, Judgement
from training.judgement.settings import JudgementSettings
from training.judgement.words import in_words

__all__ = ["About", "Judgement", "JudgementSettings", "in_words", "judge_folds", "render_html"]
