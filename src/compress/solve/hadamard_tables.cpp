// Hadamard matrices of sizes that are no powers of two: constructions of Paley (1933) over GF(q) and of Williamson
// (1944) from four symmetric circulants.
#include <array>
#include <string_view>

#include "compress/solve/transforms.h"

namespace fettle::compress {
namespace {

// First rows of the circulants A, B, C, D; sizes 52, 156 and 172 as in N. Sloane's tables, of which the last appeared
// as Baumert, Golomb and Hall's counterpart of size 92.
struct Williamson {
  int64_t size;
  std::array<std::string_view, 4> rows;
};
constexpr Williamson kWilliamson[] = {
    {52, {"+-+--++++--+-", "+---++++++---", "++-+--++--+-+", "+----+--+----"}},
    {156,
     {"+++--+-+-----+--++----++--+-----+-+--++", "++++---+--++----+-+--+-+----++--+---+++",
      "+++--++-+---+-+--+----+--+-+---+-++--++", "+---++-+-+-----+++-++-+++-----+-+-++---"}},
    {172,
     {"+---++--++++-+-+++-++--++-+++-+-++++--++---", "++-++++++----+-+--++-++-++--+-+----++++++-+",
      "+++-+-++--+-+-++++-+----+-++++-+-+--++-+-++", "++---++++-+--+--++--------++--+--+-++++---+"}},
};

std::vector<int8_t> williamson(const Williamson& w) {
  // [A B C D; -B A -D C; -C D A -B; -D -C B A]
  constexpr int kBlock[4][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}};
  constexpr int kSign[4][4] = {{1, 1, 1, 1}, {-1, 1, -1, 1}, {-1, 1, 1, -1}, {-1, -1, 1, 1}};
  const auto n = static_cast<size_t>(w.size), b = n / 4;
  std::vector<int8_t> h(n * n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      const std::string_view row = w.rows[static_cast<size_t>(kBlock[i / b][j / b])];
      const int sign = row[(j % b + b - i % b) % b] == '+' ? 1 : -1;
      h[i * n + j] = static_cast<int8_t>(sign * kSign[i / b][j / b]);
    }
  return h;
}

// GF(p^e) by tables: elements are polynomials over GF(p), coded as numbers in base p.
class Field {
 public:
  // Empty (size 0) unless q is a prime power.
  explicit Field(int64_t q) {
    int64_t p = 2;
    while (p * p <= q && q % p != 0) ++p;
    if (q % p != 0) p = q;
    int64_t e = 0, rest = q;
    while (rest > 1 && rest % p == 0) {
      rest /= p;
      ++e;
    }
    if (q < 2 || rest != 1) return;
    p_ = p;
    e_ = e;
    size_ = q;
    modulus_ = find_modulus();
  }
  int64_t size() const { return size_; }
  int64_t subtract(int64_t a, int64_t b) const {
    int64_t out = 0;
    for (int64_t i = 0, place = 1; i < e_; ++i, place *= p_)
      out += ((a / place % p_ - b / place % p_ + p_) % p_) * place;
    return out;
  }
  // chi[a]: 0 for 0, 1 for squares, -1 otherwise.
  std::vector<int8_t> quadratic_character() const {
    std::vector<int8_t> chi(static_cast<size_t>(size_), -1);
    chi[0] = 0;
    for (int64_t a = 1; a < size_; ++a) chi[static_cast<size_t>(multiply(a, a, modulus_))] = 1;
    return chi;
  }

 private:
  // Product modulo the monic polynomial x^e + modulus.
  int64_t multiply(int64_t a, int64_t b, int64_t modulus) const {
    std::vector<int64_t> c(static_cast<size_t>(2 * e_), 0);
    int64_t pa = a;
    for (int64_t i = 0; i < e_; ++i, pa /= p_) {
      int64_t pb = b;
      for (int64_t j = 0; j < e_; ++j, pb /= p_)
        c[static_cast<size_t>(i + j)] = (c[static_cast<size_t>(i + j)] + pa % p_ * (pb % p_)) % p_;
    }
    for (int64_t d = 2 * e_ - 1; d >= e_; --d) {
      const int64_t lead = c[static_cast<size_t>(d)];
      int64_t m = modulus;
      for (int64_t i = 0; i < e_; ++i, m /= p_) {
        int64_t& x = c[static_cast<size_t>(d - e_ + i)];
        x = ((x - lead * (m % p_)) % p_ + p_) % p_;
      }
    }
    int64_t out = 0;
    for (int64_t i = e_ - 1; i >= 0; --i) out = out * p_ + c[static_cast<size_t>(i)];
    return out;
  }
  // First modulus without zero divisors: then exactly (q - 1) / 2 elements are squares of others (q odd) and no
  // product of two non-zero elements vanishes.
  int64_t find_modulus() const {
    if (e_ == 1) return 0;
    for (int64_t m = 1; m < size_; ++m) {
      bool field = true;
      for (int64_t a = 1; field && a < size_; ++a)
        for (int64_t b = a; field && b < size_; ++b) field = multiply(a, b, m) != 0;
      if (field) return m;
    }
    return 0;
  }
  int64_t p_ = 0, e_ = 0, size_ = 0, modulus_ = 0;
};

constexpr int64_t kLargest = 1024;  // of the dense factor: a row costs K operations per element

// K = q + 1: border of ones around I - Q with Q[i][j] = chi(j - i).
std::vector<int8_t> paley_one(const Field& f) {
  const auto chi = f.quadratic_character();
  const auto n = static_cast<size_t>(f.size() + 1);
  std::vector<int8_t> h(n * n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      int v = 1;
      if (i == 0) {
        v = j == 0 ? 1 : -1;
      } else if (j != 0 && i != j) {
        v = -chi[static_cast<size_t>(f.subtract(static_cast<int64_t>(j) - 1, static_cast<int64_t>(i) - 1))];
      }
      h[i * n + j] = static_cast<int8_t>(v);
    }
  return h;
}

// K = 2 (q + 1): [C + I, C - I; C - I, -C - I] with the symmetric conference matrix C of q.
std::vector<int8_t> paley_two(const Field& f) {
  const auto chi = f.quadratic_character();
  const auto m = static_cast<size_t>(f.size() + 1), n = 2 * m;
  std::vector<int8_t> h(n * n);
  for (size_t i = 0; i < m; ++i)
    for (size_t j = 0; j < m; ++j) {
      int c = 1;
      if (i == j) {
        c = 0;
      } else if (i != 0 && j != 0) {
        c = chi[static_cast<size_t>(f.subtract(static_cast<int64_t>(j) - 1, static_cast<int64_t>(i) - 1))];
      }
      const int one = i == j;
      h[i * n + j] = static_cast<int8_t>(c + one);
      h[i * n + m + j] = static_cast<int8_t>(c - one);
      h[(m + i) * n + j] = static_cast<int8_t>(c - one);
      h[(m + i) * n + m + j] = static_cast<int8_t>(-c - one);
    }
  return h;
}

// [H, H; H, -H]
std::vector<int8_t> doubled(const std::vector<int8_t>& h, size_t k) {
  std::vector<int8_t> out(4 * k * k);
  for (size_t i = 0; i < 2 * k; ++i)
    for (size_t j = 0; j < 2 * k; ++j) {
      const int8_t v = h[i % k * k + j % k];
      out[i * 2 * k + j] = static_cast<int8_t>(i >= k && j >= k ? -v : v);
    }
  return out;
}

}  // namespace

std::vector<int8_t> small_hadamard(int64_t k) {
  if (k == 1) return {1};
  if (k == 2) return {1, 1, 1, -1};
  if (k < 4 || k % 4 != 0 || k > kLargest) return {};
  for (const Williamson& w : kWilliamson)
    if (w.size == k) return williamson(w);
  if (k == 40) return doubled(small_hadamard(20), 20);  // as in the tables, though 2 (19 + 1) is Paley I doubled
  // 28 has both; the tables hold the second.
  if (const Field f(k - 1); k != 28 && f.size() != 0 && f.size() % 4 == 3) return paley_one(f);
  if (const Field f(k / 2 - 1); f.size() != 0 && f.size() % 4 == 1) return paley_two(f);
  return {};
}

int64_t hadamard_odd_part(int64_t n) {
  const auto power_of_two = [](int64_t x) { return x > 0 && (x & (x - 1)) == 0; };
  if (power_of_two(n)) return 1;
  for (const int64_t k : {172, 156, 152, 140, 108, 60, 52, 36, 28, 40, 20, 12})
    if (n % k == 0 && power_of_two(n / k)) return k;
  int64_t k = n;
  while (k > 0 && k % 2 == 0) k /= 2;
  for (; k > 0 && k <= kLargest && k <= n; k *= 2)
    if (n % k == 0 && !small_hadamard(k).empty()) return k;
  return 0;
}

}  // namespace fettle::compress
