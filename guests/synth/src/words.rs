//! The lists that names, addresses and texts are drawn from.

use std::sync::LazyLock;

pub(crate) static FIRST_NAMES: List = List::new(|| {
    split(
        "Ada Aisha Akira Alejandro Amara Anna Arjun Astrid Bao Carlos Chioma Clara Daniel Diego Elena Emeka Emma \
     Fatima Felix Freya Giulia Hana Hassan Hugo Ines Ivan Jamal Jana Jin Jonas Julia Kofi Lars Leila Liam Lucia \
     Mads Maria Marta Mateo Mei Mina Nadia Noah Nora Olga Omar Paolo Priya Rania Ravi Rosa Sana Sofia Tariq Tomas \
     Uma Viktor Wei Yara Yusuf Zoe",
    )
});

pub(crate) static LAST_NAMES: List = List::new(|| {
    split(
        "Abebe Adeyemi Ali Andersen Bauer Bianchi Brown Chen Costa Diaz Dubois Eriksen Fernandez Fischer Garcia Gupta \
     Haddad Hansen Hoffmann Horvat Ito Ivanov Jansen Johnson Kaya Khan Kim Kovacs Kowalski Kumar Larsen Lopez \
     Mbeki Mensah Meyer Moreau Nakamura Nguyen Novak Okafor Papadopoulos Park Patel Popescu Rossi Santos Sato \
     Schmidt Sharma Silva Singh Smith Tanaka Tran Wagner Wang Yilmaz Zhang",
    )
});

/// Under `.example`, which belongs to nobody (RFC 2606).
pub(crate) static DOMAINS: List =
    List::new(|| split("mail.example post.example office.example school.example shop.example research.example"));

pub(crate) static WORDS: List = List::new(|| {
    split(
        "amber anchor arrow autumn basin beacon birch bridge bright canyon carry cedar chalk circle clear cloud \
     copper coral cotton crystal dawn delta desert drift eager early earth echo ember fable falcon field flint \
     forest frost garden gentle glass golden grain harbour hazel hollow honey island ivory jade kettle lantern \
     linen maple marble meadow mellow mirror morning north ocean olive orchard paper pebble pine plain quiet \
     rapid river saffron salt shadow silver slate spring steady stone summer thunder timber valley velvet violet \
     walnut water willow winter",
    )
});

type List = LazyLock<Vec<&'static str>>;

fn split(words: &'static str) -> Vec<&'static str> {
    words.split_whitespace().collect()
}
