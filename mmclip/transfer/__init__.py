"""Labels carried from one survey to another: regressors, LoRA, what each method costs."""
