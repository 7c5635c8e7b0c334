"""MXNet's linear algebra against NumPy's: checks the BLAS and LAPACK that it links on this machine."""

import numpy as np
import pytest
from mxnet import nd
from mxnet import np as mnp
from numpy.testing import assert_allclose

N = 50


@pytest.fixture(params=["float32", "float64"])
def close(request):
    """A function that asserts that MXNet and NumPy compute the same from arrays."""
    tolerance = {"float32": 2e-4, "float64": 1e-9}[request.param]

    def check(by_mxnet, by_numpy, *arrays, array=nd.array):
        results = by_mxnet(*(array(a, dtype=request.param) for a in arrays))
        results, expected = ([r] if hasattr(r, "shape") else list(r) for r in (results, by_numpy(*arrays)))
        for result, wanted in zip(results, expected, strict=True):
            assert np.dtype(result.dtype) == request.param
            assert_allclose(result.asnumpy(), wanted, rtol=tolerance, atol=tolerance)

    return check


@pytest.fixture
def a():
    """Any square matrix."""
    return np.random.default_rng(0).normal(size=(N, N))


@pytest.fixture
def s(a):
    """A symmetric positive definite matrix with eigenvalues of at least 1."""
    return a @ a.T / N + np.eye(N)


def test_products(close, a, s):
    close(nd.dot, np.dot, a, s)
    close(lambda a, s: nd.dot(a, s, transpose_a=True, transpose_b=True), lambda a, s: a.T @ s.T, a, s)
    close(nd.dot, np.dot, a, s[0])
    close(nd.batch_dot, np.matmul, np.stack([a, s, a]), np.stack([s, a, a]))
    close(lambda a, s: nd.linalg.gemm2(a, s, alpha=2.0), lambda a, s: 2 * a @ s, a, s)
    close(nd.linalg.syrk, lambda a: a @ a.T, a)


def test_triangular_matrices(close, a, s):
    lower = np.linalg.cholesky(s)
    close(nd.linalg.potrf, np.linalg.cholesky, s)
    close(nd.linalg.potri, lambda lower: np.linalg.inv(lower @ lower.T), lower)
    close(nd.linalg.trmm, np.matmul, lower, a)
    close(nd.linalg.trsm, np.linalg.solve, lower, a)


def test_inverses_and_determinants(close, a, s):
    close(nd.linalg.inverse, np.linalg.inv, s)
    close(nd.linalg.det, np.linalg.det, a[:5, :5])
    close(nd.linalg.slogdet, np.linalg.slogdet, s)
    close(mnp.linalg.solve, np.linalg.solve, s, a, array=mnp.array)


def test_factors_give_the_matrix_back(close, a, s):
    def product_of_lq(a):
        q, lower = nd.linalg.gelqf(a)
        return nd.dot(lower, q), nd.dot(q, q, transpose_b=True)

    def product_of_svd(a):
        u, sigma, v = mnp.linalg.svd(a)
        return mnp.dot(u * sigma, v), sigma

    close(product_of_lq, lambda a: (a, np.eye(len(a))), a[: N // 2])
    close(product_of_svd, lambda a: (a, np.linalg.svd(a)[1]), a, array=mnp.array)
    close(lambda s: nd.linalg.syevd(s)[1], np.linalg.eigvalsh, s)
    close(mnp.linalg.eigvalsh, np.linalg.eigvalsh, s, array=mnp.array)


def test_eigenvalues_of_any_matrix():
    rotation = np.array([[3.0, 0.5], [0.25, 1.0]])
    values, vectors = (x.asnumpy() for x in mnp.linalg.eig(mnp.array(rotation, dtype="float64")))
    assert_allclose(rotation @ vectors, vectors * values, atol=1e-12)
