"""What a network is trained on: losses on the detector, against known objects, of the patches and of the probe."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import tensorflow as tf

from ptycho.config.config import TrainingConfig
from ptycho.config.losses import detector_weights
from ptycho.config.options import ObjectiveOptions
from ptycho.core.training.patch_losses import PatchLoss, patch_losses
from ptycho.errors import ConfigError
from ptycho.tf import losses
from ptycho.tf.physics import to_complex
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.reassembly import channel_first

__all__ = ["Objective"]

logger = logging.getLogger(__name__)

Batch = Sequence[tf.Tensor]

_PARTS = {"object": lambda patches: patches, "modulus": losses.modulus, "phasors": losses.phasors}


class Objective:
    """The loss of a training; batches are `(X_norm, positions, mask)`, with `needs_truth` also `Y`; at the end flux
    and background, where they are known, and the blur, where it is.

    Of a `pinn` it is the weighted sum of the losses on the detector and in real space. A `supervised` model is
    compared with known objects alone, `realspace_mae` with its weight or else 1: no photon is predicted, and weights of
    detector losses have no effect. There a pixel counts as it does in stitching, by the light on it, because of one
    in the dark a pattern says nothing; and the intensity scale stays what it was, a matter of photons. Regularisers
    and the other terms of the options are added to either.

    The measured counts are `(s_0 X_norm)^2`, s_0 the nominal intensity scale; the mean count per pixel that the loss
    is divided by follows from the definition of k: `s_0^2 / 4`. The nominal scale of the object is `a / k`.

    Args:
        config: weights, and the type of the model.
        options: further terms.
        model: as training begins with it; its probe is what `probe_reference_coeff` refers to.
    """

    def __init__(self, config: TrainingConfig, options: ObjectiveOptions, model: PtychoPINN) -> None:
        self.config = config
        self.options = options
        self.supervised = config.model.model_type == "supervised"
        self.reference = tf.identity(model.probe())
        if options.probe_reference_coeff and not config.probe_trainable:
            logger.warning(
                "probe_reference_coeff=%g has no effect on a fixed probe: set probe_trainable, or leave it at 0",
                options.probe_reference_coeff,
            )

    @property
    def needs_truth(self) -> bool:
        """Whether a batch has to bring the ground-truth patches."""
        return self.supervised or self.config.realspace_mae_weight > 0

    def loss(self, model: PtychoPINN, batch: Batch, size: int, physics_weight: float = 1.0) -> tf.Tensor:
        """The weighted sum of everything that is asked for, a scalar.

        Args:
            model: the model.
            batch: groups of one step.
            size: side of the canvas, pixels.
            physics_weight: w of `w (losses on the detector) + (1 - w) mae`, from 0 to 1: a staged training begins
                with the error of the amplitude, which is robust, and ends with the likelihood. A number, which a
                graph keeps as it was when it was made.

        Raises:
            ConfigError: `physics_weight` is not 1 for a supervised model.
        """
        normalised, positions, mask, *further = batch
        count = int(self.needs_truth)
        truth, recorded = further[:count], further[count:]
        normalised = tf.cast(normalised, model.dtype)
        members = model.canvas_and_members(normalised, positions, size, mask, *recorded)[1]
        parts = [
            *self._detector_losses(model, members, positions, normalised, mask, physics_weight, recorded),
            *self._realspace_losses(model, members, *truth),
            *self._probe_losses(model),
        ]
        return tf.add_n(parts)

    def _detector_losses(
        self,
        model: PtychoPINN,
        members: tf.Tensor,
        positions: tf.Tensor,
        normalised: tf.Tensor,
        mask: tf.Tensor,
        physics_weight: float,
        recorded: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        """What the patches would give on the detector against the measurement, per valid pixel."""
        config, scale = self.config, model.nominal_intensity_scale
        if self.supervised:
            if physics_weight != 1:
                raise ConfigError(
                    f"physics weight {physics_weight:g}: a supervised model has no loss on the detector to weigh; "
                    "leave stage_1_epochs, stage_2_epochs and stage_3_epochs at 0"
                )
            return []
        weights = detector_weights(vars(config), config.torch_loss_mode, physics_weight)
        expected = model.expected_counts(members, positions, *recorded)
        counts, mean_count = tf.square(scale * normalised), scale**2 / 4
        return [
            weight * getattr(losses, name)(expected, counts, mean_count, mask)
            for name, weight in weights.items()
            if weight
        ]

    def _realspace_losses(
        self, model: PtychoPINN, members: tf.Tensor, truth: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """Roughness and error of the patches, per pixel, relative to the object's nominal scale."""
        nominal = model.probe.scale / model.input_scale
        factor = tf.stop_gradient(model.object_scale) if self.supervised else model.object_scale
        objects = to_complex(factor / nominal) * members
        pictures = channel_first(objects)

        def value(loss: PatchLoss) -> tf.Tensor:
            if loss.part != "truth":
                return getattr(losses, loss.function)(_PARTS[loss.part](pictures))
            known, phase_free = tf.cast(truth, objects.dtype), self.options.phase_subtraction
            if not self.supervised:
                return losses.realspace_mae(objects, known / nominal, phase_free)
            return losses.realspace_mae(pictures, channel_first(known) / nominal, phase_free, model.group_weight())

        return [loss.weight * value(loss) for loss in patch_losses(self.config, self.options)]

    def _probe_losses(self, model: PtychoPINN) -> list[tf.Tensor]:
        """How far the trainable probe has gone."""
        coefficient = self.options.probe_reference_coeff
        if not coefficient or not self.config.probe_trainable:
            return []
        return [coefficient * losses.probe_distance(model.probe(), self.reference)]
