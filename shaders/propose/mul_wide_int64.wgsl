// The (low, high) halves of a·b, by one 64-bit product.
fn mul_wide(a: U, b: u32) -> Product {
    let product = L(a) * u64(b);
    return Product(U(product), U(product >> U(32u)));
}
