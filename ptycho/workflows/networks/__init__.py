"""What a network's way needs: data to train on, its stored model, its pass, one object of patches."""
