"""Gradients as one vector: collected when backward ends, given to the rule, handed back to the optimizer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.autograd import Variable

from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector


class GradientBucket:
    """Calls a rule with all gradients once per backward, before anything clips or uses them.

    A parameter without a gradient on this worker counts as zero; one without a gradient on any worker keeps none
    (as DistributedDataParallel does with ``find_unused_parameters``). To know which, one flag per parameter travels
    along where gradients are averaged; where a rule makes gradients otherwise, those count that are not zero.

    Args:
        storage: the parameters.
        on_gradients: called at the end of backward with ``flat`` filled; may change it. Returns whether there is
            anything to hand back: if not, the gradients have been dropped.
        take: given, for each parameter, whether it has a gradient anywhere, in place of handing gradients back.
    """

    def __init__(
        self,
        storage: FlatStorage,
        on_gradients: Callable[[], bool],
        take: Callable[[list[bool]], None] | None = None,
    ) -> None:
        self.enabled = True
        self._take = take
        self._parameters = storage.parameters
        self._on_gradients = on_gradients
        self._pending = False
        pieces = [tensor.new_zeros(tensor.numel()) for tensor in storage.flat.tensors]
        self._present = pieces[0].new_zeros(len(self._parameters))
        self.flat = FlatVector(pieces, wire=[*pieces, self._present])
        self._views = storage.views(self.flat)
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._gradient_ready) for parameter in self._parameters
        ]

    def close(self) -> None:
        """Leave gradients alone from now on."""
        for hook in self._hooks:
            hook.remove()

    def hand_over(self) -> None:
        """Give the rule the gradients there are, and the optimizer what the rule makes of them, as backward ends."""
        self._pending = False
        present = [parameter.grad is not None for parameter in self._parameters]
        complete = all(present)
        if complete:
            self._present.fill_(1.0)
        else:
            self._present.copy_(self._present.new_tensor([float(has_gradient) for has_gradient in present]))
        for parameter, view in zip(self._parameters, self._views, strict=True):
            _fill(view, parameter.grad)
        if not self._on_gradients():
            return
        # Who has all gradients knows the flags; reading them would make the host wait for a GPU.
        # A rule may also have made a gradient of what others had before.
        anywhere = present if complete else [bool(flag) for flag in self._present.tolist()]
        if not complete:
            anywhere = [has or bool(view.any()) for has, view in zip(anywhere, self._views, strict=True)]
        for parameter, view, has_gradient in zip(self._parameters, self._views, anywhere, strict=True):
            if self._take is not None:
                parameter.grad = None
            elif has_gradient:
                parameter.grad = view
        if self._take is not None:
            self._take(anywhere)

    def _gradient_ready(self, _: nn.Parameter) -> None:
        if self.enabled and not self._pending:
            self._pending = True
            Variable._execution_engine.queue_callback(self.hand_over)


def _fill(view: Tensor, gradient: Tensor | None) -> None:
    if gradient is None:
        view.zero_()
    elif gradient.data_ptr() != view.data_ptr():
        view.copy_(gradient)
