"""12. Derivatives of derivatives: the gradient is itself a graph, so it can be differentiated again, and drawn.

`mg.grad(y, x, create_graph=True)` writes the backward pass on the tape too. Four things that this is good for:

1. tanh and its derivatives up to the fourth, and the graph of the first two, which is nothing but more of the tape.
2. Newton's method (Newton 1669, Raphson 1690): x - f(x) / f'(x) doubles the correct digits at each step; the minimum of
   Rosenbrock's valley (1960) takes six steps with its Hessian, and thousands without.
3. A penalty on the gradient with respect to the *inputs* (double backpropagation, Drucker & LeCun 1992; in adversarial
   training Gulrajani et al. 2017): training differentiates through a derivative. The network becomes smooth.
4. Products with the Hessian (Pearlmutter 1994): for the price of two backwards, and never the matrix. Power iteration
   finds the largest curvature of a recurrent network's loss, and 2 / that is the step size beyond which descent grows.
"""

import common
import numpy as np

import minigrad as mg
import rnn

options = common.arguments(__doc__)
rng = np.random.default_rng(options.seed)

common.title("1. tanh, again and again")
x = mg.tensor(np.linspace(-3, 3, 200), requires_grad=True, name="x")
orders = [np.tanh(x)]
for k in range(1, 5):
    orders += mg.grad(orders[-1].sum(), x, create_graph=True)
    print(f"derivative {k}: {len(mg.tape(orders[k])):4d} lines of tape, largest value {abs(orders[k].data).max():.4f}")
t = orders[0].data
assert np.allclose(orders[2].data, -2 * t * (1 - t**2)), "the second derivative of tanh is -2 tanh (1 - tanh²)"
one = mg.tensor(0.5, requires_grad=True, name="x")
y = np.tanh(one)
(dy,) = mg.grad(y, one, create_graph=True)
(ddy,) = mg.grad(dy, one, create_graph=True)
mg.name(y=y, dy=dy, ddy=ddy)
common.save(options.out, "12_tanh_twice.svg", mg.draw([y, dy, ddy], view="ops"))

common.title("2. Newton's method")
root = mg.tensor(2.0, requires_grad=True)  # Newton's own example: x³ - 2x - 5 = 0
for k in range(5):
    f = root**3 - 2 * root - 5
    (slope,) = mg.grad(f, root)
    print(f"step {k}: x = {root.item():.15f}, f(x) = {f.item():+.1e}")
    root = mg.tensor(root.data - f.data / slope.data, requires_grad=True)

valley = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
slope_of = lambda p: mg.grad(valley(p), p, create_graph=True)[0]
paths = {}
for name, steps in (("gradient descent", 20_000 if options.full else 600), ("Newton", 6)):
    p = np.array([-1.2, 1.0])
    paths[name] = [p]
    for _ in range(steps):
        g = slope_of(mg.tensor(p, requires_grad=True)).data
        p = p - (np.linalg.solve(mg.jacobian(slope_of, p), g) if name == "Newton" else 1e-3 * g)
        paths[name].append(p)
    print(f"valley, {name}, {steps} steps: ({p[0]:.6f}, {p[1]:.6f}), the minimum is (1, 1)")

common.title("3. A penalty on the gradient")
inputs = np.sort(rng.uniform(-2, 2, (14, 1)), axis=0)
targets = np.sin(2 * inputs) + 0.4 * rng.normal(size=inputs.shape)
grid = np.linspace(-2.2, 2.2, 200)[:, None]
fits = {}
anywhere = mg.tensor(np.linspace(-2, 2, 40)[:, None], requires_grad=True)
for weight in (0.0, 0.01):
    first, second, third = (mg.nn.Linear(a, b, dtype=float, rng=k) for k, (a, b) in
                            enumerate(((1, 40), (40, 40), (40, 1)), options.seed + 1))
    net = mg.nn.Sequential(first, mg.nn.Tanh(), second, mg.nn.Tanh(), third)
    adam = mg.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(2000 if options.full else 400):
        adam.zero_grad()
        loss = error = mg.mse_loss(net(mg.tensor(inputs)), targets)
        if weight:
            (slope,) = mg.grad(net(anywhere).sum(), anywhere, create_graph=True)
            loss = loss + weight * np.mean(slope**2)  # its backward goes through a backward
        loss.backward()
        adam.step()
    fits[weight] = net(mg.tensor(grid)).data
    distance = np.sqrt(np.mean((fits[weight] - np.sin(2 * grid))[10:-10] ** 2))
    print(f"penalty {weight:4}: error on the noisy points {error.item():.4f}, distance from the truth {distance:.3f}")

common.title("4. Products with the Hessian of a recurrent network")
cell, sequence = rnn.LSTM(3, 8, dtype=float, rng=options.seed).cells[0], rng.normal(size=(4, 10, 3))


def energy(U: mg.Tensor) -> mg.Tensor:
    """The loss as a function of the recurrent weights alone."""
    state, a = cell.initial_state(4), mg.swapaxes(cell.project(mg.tensor(sequence)), 0, 1)
    state, h = mg.scan(lambda s, a: cell.step(a, s, (U,))[::-1], state, a)
    return np.mean((h - 0.5) ** 2)


U, v = cell.weight_hh.data, rng.normal(size=cell.weight_hh.shape)
for _ in range(40 if options.full else 15):
    v = mg.hvp(energy, U, v)
    v = v / np.linalg.norm(v)
curvature = np.sum(v * mg.hvp(energy, U, v))
print(f"largest curvature: {curvature:.7f}; the matrix would be {U.size} × {U.size}, "
      f"a product is {U.size} numbers; descent is stable up to a step of 2 / {curvature:.4f} = {2 / curvature:.0f}")
slopes = [mg.grad(energy(p), p)[0].data for p in (mg.tensor(U + e * v, requires_grad=True) for e in (1e-4, -1e-4))]
print(f"the same by a difference of two gradients: {np.sum(v * (slopes[0] - slopes[1])) / 2e-4:.7f}")


def draw(left, middle, right) -> None:
    left.plot(x.data, np.transpose([y.data for y in orders]), label=["tanh", *(f"order {k}" for k in range(1, 5))])
    left.set(title="tanh and its derivatives")
    left.legend(fontsize=8)
    a, b = np.meshgrid(np.linspace(-1.6, 1.6, 60), np.linspace(-3.4, 1.6, 60))
    middle.contour(a, b, np.log1p(valley((a, b))), 10, colors="#C8C8C8", linewidths=0.7)
    for (name, path), style in zip(paths.items(), ("-", "o-")):
        middle.plot(*np.array(path).T, style, markersize=3, label=f"{name}, {len(path) - 1} steps")
    middle.plot(1, 1, "k*", markersize=10)
    middle.set(title="Rosenbrock's valley")
    middle.legend(fontsize=8, loc="lower left")
    right.plot(inputs, targets, "k.", label="noisy points")
    right.plot(grid, np.sin(2 * grid), color="#B0B0B0", linestyle="--", label="the truth")
    right.plot(grid, np.hstack(list(fits.values())), label=[f"penalty {weight:g}" for weight in fits])
    right.set(title="A penalty on the slope", ylim=(-2.2, 2.2))
    right.legend(fontsize=8)


common.plot(options.out, "12_higher_derivatives.svg", draw, columns=3, size=(12, 3.8))
print("Look at 12_tanh_twice.svg: the second derivative is more of the same graph, not a second kind of rule.")
