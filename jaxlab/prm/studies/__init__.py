"""Experiments of AutoPRM, each measuring some rows of its claims."""
