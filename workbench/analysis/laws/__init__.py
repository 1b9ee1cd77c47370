"""Laws: how scores grow with what is spent, and what a coarser model keeps of them."""
