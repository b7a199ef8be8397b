%% Generators for term_SUITE: terms of every kind, every way to write one down
%% (old tags too), and ways to spoil the bytes.
-module(prop_term).

-export([written/1]).
-export([spoilt/1]).
-export([encoded/0]).

%% Debian's PropEr comes without its header file.
-define(LET(X, Type, Body), proper_types:bind(Type, fun(X) -> Body end, false)).
-define(LAZY(Type), proper_types:lazy(fun() -> Type end)).
-define(SIZED(Size, Type), proper_types:sized(fun(Size) -> Type end)).
-import(proper_types, [
    binary/0, bitstring/0, byte/0, float/0, frequency/1, integer/0, list/1, oneof/1, range/2,
    resize/2, vector/2, weighted_default/2
]).

%% `N` inputs that a node, old or new, may have written, or nearly so. PropEr is
%% thorough but takes a millisecond for a term, so it makes a few and a seed, and
%% the rest are those few put together in many ways.
written(N) ->
    ?LET({Few, Seed}, {vector(N div 50, encoded()), seed()}, begin
        _ = rand:seed(exsss, Seed),
        Pool = list_to_tuple(Few),
        Few ++ [together(Pool) || _ <- lists:seq(1, N - length(Few))]
    end).

%% `N` inputs that no node should have written; most are no term any more.
spoilt(N) ->
    ?LET({Few, Seed}, {vector(N div 50, encoded()), seed()}, begin
        _ = rand:seed(exsss, Seed),
        Pool = list_to_tuple(Few),
        [spoil(Pool) || _ <- lists:seq(1, N)]
    end).

seed() ->
    {range(1, 1 bsl 30), range(1, 1 bsl 30), range(1, 1 bsl 30)}.

encoded() ->
    frequency([
        {4, ?LET(T, any_term(), term_to_binary(T))},
        {1, ?LET({T, N}, {any_term(), range(0, 9)}, term_to_binary(T, [{compressed, N}]))},
        {2, ?LET({T, V}, {any_term(), range(0, 2)}, term_to_binary(T, [{minor_version, V}]))},
        {4, ?LET(E, ?SIZED(Size, old(Size)), iolist_to_binary([131, E]))},
        {1, ?LET(E, ?SIZED(Size, old(Size)), compressed(iolist_to_binary(E)))}
    ]).

%%% of few, many

together(Pool) ->
    Inner = [plain(Pool) || _ <- lists:seq(1, rand:uniform(4))],
    N = length(Inner),
    [A | _] = Inner,
    B = plain(Pool),
    Outer =
        case rand:uniform(12) of
            1 -> [104, N, Inner];
            2 -> [105, <<N:32>>, Inner];
            3 -> [108, <<N:32>>, Inner, 106];
            4 -> [108, <<N:32>>, Inner, B];
            5 -> [116, <<N:32>>, [[K, plain(Pool)] || K <- Inner]];
            6 -> [116, <<2:32>>, [104, 2, A, B], B, [104, 2, B, A], A];
            7 -> [116, <<2:32>>, [108, <<1:32>>, A, B], A, [108, <<1:32>>, A, B], B];
            8 -> [116, <<2:32>>, [108, <<0:32>>, A], A, A, B];
            9 -> [116, <<N:32>>, [[[98, <<I:32>>], V] || {I, V} <- lists:enumerate(Inner)]];
            10 -> [112, <<0:32, 1, 0:128, 7:32, N:32>>, 119, 1, $m, 97, 1, 97, 2, A, Inner];
            11 -> [113, A, B, 97, 3];
            12 -> [88, A, <<1:32, 2:32, 3:32>>]
        end,
    case rand:uniform(10) of
        1 -> compressed(iolist_to_binary(Outer));
        _ -> iolist_to_binary([131, Outer])
    end.

%% Without the 131 in front; a compressed one unpacked.
plain(Pool) ->
    case pick(Pool) of
        <<131, 80, _:32, Z/binary>> -> zlib:uncompress(Z);
        <<131, Rest/binary>> -> Rest
    end.

pick(Pool) ->
    element(rand:uniform(tuple_size(Pool)), Pool).

spoil(Pool) ->
    case rand:uniform(10) of
        1 ->
            splice(pick(Pool), pick(Pool));
        2 ->
            %% spoilt, then compressed again: the stream itself is sound
            <<131, Rest/binary>> = mutate(<<131, (plain(Pool))/binary>>),
            compressed(Rest, one_of([0, 0, 0, 0, -1, 1, 3]));
        3 ->
            mutate(together(Pool));
        _ ->
            mutate(pick(Pool))
    end.

splice(A, B) ->
    Front = binary:part(A, 0, rand:uniform(byte_size(A))),
    From = rand:uniform(byte_size(B)) - 1,
    <<Front/binary, (binary:part(B, From, byte_size(B) - From))/binary>>.

mutate(B) ->
    lists:foldl(fun(_, Acc) -> mutate_once(Acc) end, B, lists:seq(1, rand:uniform(4))).

mutate_once(B) when byte_size(B) > 1 ->
    %% the version byte stays: without it nothing is looked at
    I = min(byte_size(B) - 1, one_of([rand:uniform(12), rand:uniform(byte_size(B) - 1)])),
    <<Front:I/binary, Back/binary>> = B,
    iolist_to_binary([Front, change(rand:uniform(10), Back)]);
mutate_once(B) ->
    B.

change(N, <<C, Rest/binary>>) when N =< 3 ->
    [C bxor (1 bsl (rand:uniform(8) - 1)), Rest];
change(4, <<_, Rest/binary>>) ->
    [rand:uniform(256) - 1, Rest];
change(5, <<_, Rest/binary>>) ->
    [one_of([67, 70, 73, 74, 75, 76, 77, 80, 82, 88, 89, 90, 131] ++ lists:seq(97, 120)), Rest];
change(6, Rest) ->
    Gone = min(rand:uniform(4), byte_size(Rest)),
    binary:part(Rest, Gone, byte_size(Rest) - Gone);
change(7, Rest) ->
    [[rand:uniform(256) - 1 || _ <- lists:seq(1, rand:uniform(4))], Rest];
change(8, <<_:16, Rest/binary>>) ->
    [<<(one_of([0, 1, 2, 5, 6, 255, 256, 1020, 65535])):16>>, Rest];
change(9, <<_:32, Rest/binary>>) ->
    [<<(one_of([0, 1, 2, 255, 256, 1 bsl 16, 1 bsl 31, (1 bsl 32) - 1])):32>>, Rest];
change(10, <<C, Rest/binary>>) ->
    case rand:uniform(3) of
        1 -> [];
        _ -> [lists:duplicate(rand:uniform(20), C), Rest]
    end;
change(_, Rest) ->
    Rest.

one_of(Choices) ->
    lists:nth(rand:uniform(length(Choices)), Choices).

%%% terms

any_term() ->
    ?SIZED(Size, any_term(Size)).

any_term(Size) when Size =< 1 ->
    leaf();
any_term(Size) ->
    ?LAZY(
        frequency([
            {3, leaf()},
            {2, ?LET(Es, elements_of(Size), list_to_tuple(Es))},
            {2, elements_of(Size)},
            {1, ?LET({Es, Tail}, {elements_of(Size), leaf()}, Es ++ Tail)},
            {2, ?LET(Es, list_of(Size, {any_term(Size div 4), any_term(Size div 4)}), maps:from_list(Es))},
            {1, large_map()},
            {1, ?LET(T, any_term(Size div 2), fun() -> T end)},
            {1, ?LET({T, U}, {any_term(Size div 3), any_term(Size div 3)}, fun(X) -> {X, T, U} end)}
        ])
    ).

elements_of(Size) ->
    list_of(Size, any_term(Size div 4)).

list_of(Size, Gen) ->
    ?LET(N, range(0, min(6, Size)), vector(N, Gen)).

large_map() ->
    ?LET({N, K}, {range(30, 40), range(0, 1 bsl 62)}, maps:from_list([{I * K, I} || I <- lists:seq(1, N)])).

leaf() ->
    frequency([
        {4, integer_()},
        {3, an_atom()},
        {2, number_()},
        {2, binary()},
        {1, bitstring()},
        {1, []},
        {1, ?LET(S, list(byte()), S)},
        {1, ?LET(S, list(range(0, 16#D7FF)), S)},
        {1, ?LET(Id, range(0, 16#7FFF), pid_of(Id))},
        {1, ?LAZY(make_ref())},
        {1, oneof([fun lists:map/2, fun erlang:'+'/2, fun no_such:fun_at_all/255])},
        {1, foreign()},
        {1, oneof([hd(erlang:ports()), self()])}
    ]).

integer_() ->
    frequency([
        {3, integer()},
        {1, range(-(1 bsl 31) - 2, -(1 bsl 31) + 2)},
        {1, range((1 bsl 31) - 2, (1 bsl 31) + 2)},
        {1, range((1 bsl 59) - 2, (1 bsl 59) + 2)},
        {1, range(-(1 bsl 59) - 2, -(1 bsl 59) + 2)},
        {1, range((1 bsl 63) - 2, (1 bsl 64) + 2)},
        {1, ?LET({N, X}, {range(1, 3000), integer()}, (1 bsl N) * X + X)}
    ]).

number_() ->
    oneof([float(), 0.0, -0.0, 1.0e300, -5.0e-324, 1.7976931348623157e308]).

an_atom() ->
    frequency([
        {3, oneof([a, b, ok, error, true, false, undefined, '', 'A B', 'å', 'Ѐ', '日本'])},
        {1, ?LET(N, range(0, 255), list_to_atom(lists:duplicate(N, $x)))},
        {1, ?LET(N, range(120, 255), list_to_atom(lists:duplicate(N, 16#20AC)))},
        {1, ?LET(N, range(120, 255), list_to_atom(lists:duplicate(N, 16#E5)))}
    ]).

pid_of(Id) ->
    list_to_pid("<0." ++ integer_to_list(Id) ++ ".0>").

%% Identifiers of other nodes, wide ones among them.
foreign() ->
    ?LET(
        {Node, Id, Serial, Creation, Words},
        {oneof(['a@h', 'nonode@nohost', 'å@b']), u32(), u32(), u32(), range(1, 5)},
        begin
            Name = name119(Node),
            oneof([
                binary_to_term(<<131, 88, Name/binary, Id:32, Serial:32, (max(1, Creation)):32>>),
                binary_to_term(<<131, 120, Name/binary, Id:32, Serial:32, (max(1, Creation)):32>>),
                binary_to_term(<<131, 89, Name/binary, Id:32, (max(1, Creation)):32>>),
                binary_to_term(
                    <<131, 90, Words:16, Name/binary, (max(1, Creation)):32, Id:(32 * Words)>>
                )
            ])
        end
    ).

u32() ->
    oneof([range(0, 3), range(0, 1 bsl 16), range(0, (1 bsl 32) - 1)]).

name119(Atom) ->
    B = atom_to_binary(Atom),
    <<119, (byte_size(B)), B/binary>>.

%%% by hand: every tag that there is or was, legal and nearly so

old(Size) when Size =< 1 ->
    old_leaf();
old(Size) ->
    Child = ?LAZY(old(Size div 4)),
    Children = ?LET(N, range(0, min(5, Size)), vector(N, Child)),
    frequency([
        {4, old_leaf()},
        {2, ?LET(Cs, Children, [104, length(Cs), Cs])},
        {1, ?LET(Cs, Children, [105, <<(length(Cs)):32>>, Cs])},
        {2, ?LET({Cs, T}, {Children, Child}, [108, <<(length(Cs)):32>>, Cs, T])},
        {1, ?LET(Cs, Children, [108, <<(length(Cs)):32>>, Cs, 106])},
        {1, ?LET(T, Child, [<<108, 0:32>>, T])},
        {3, ?LET(Cs, Children, [116, <<(length(Cs)):32>>, [[C, 106] || C <- Cs]])},
        {1, ?LET({C, D}, {Child, Child}, [<<116, 2:32>>, C, D, C, D])},
        {1, large_old_map(Child)},
        {1,
            ?LET(
                {M, Index, Uniq, Creator, Env, Free},
                {old_atom(), old_integer(), old_integer(), weighted_default({5, old_pid()}, {1, Child}),
                    Children, weighted_default({8, exact}, {1, range(0, 300)})},
                [
                    <<112, 0:32, 1, 0:128, 7:32>>,
                    <<(case Free of exact -> length(Env); N -> N end):32>>,
                    M, Index, Uniq, Creator, Env
                ]
            )}
    ]).

large_old_map(Child) ->
    ?LET(
        {N, Keys, C},
        {range(31, 35), oneof([distinct, twins]), Child},
        begin
            Ks = [[98, <<(case Keys of distinct -> I; twins -> I rem (N - 1) end):32>>] || I <- lists:seq(1, N)],
            [116, <<N:32>>, [[K, C] || K <- Ks]]
        end
    ).

old_leaf() ->
    frequency([
        {4, old_integer()},
        {4, old_atom()},
        {2, old_float()},
        {1, [106]},
        {1, ?LET(B, binary(), [107, <<(byte_size(B)):16>>, B])},
        {1, ?LET(B, binary(), [109, <<(byte_size(B)):32>>, B])},
        {2, ?LET({B, N}, {binary(), range(0, 9)}, [77, <<(byte_size(B)):32>>, N, B])},
        {3, old_pid()},
        {2, old_port()},
        {3, old_ref()},
        {2, ?LET({M, F, A}, {old_atom(), old_atom(), old_integer()}, [113, M, F, A])},
        {1, [82, byte()]},
        {1, ?LET(N, u16(), [73, <<N:16>>])},
        {1, ?LET(N, range(0, 1 bsl 18), [75, <<N:24>>])},
        {1, ?LET({T, B}, {byte(), binary()}, [T, B])}
    ]).

old_integer() ->
    frequency([
        {3, ?LET(N, byte(), [97, N])},
        {2, ?LET(N, u32(), [98, <<N:32>>])},
        {2,
            ?LET({S, B, Z}, {range(0, 2), resize(12, binary()), range(0, 10)}, [
                110, byte_size(B) + Z, S, B, <<0:(8 * Z)>>
            ])},
        {1,
            ?LET({S, B, Z}, {range(0, 2), resize(12, binary()), range(0, 300)}, [
                111, <<(byte_size(B) + Z):32>>, S, B, <<0:(8 * Z)>>
            ])},
        {1, ?LET(I, range(-(1 bsl 59) - 1, 1 bsl 59), tail(term_to_binary(I)))},
        {1, ?LET(I, oneof([-(1 bsl 59) - 1, -(1 bsl 59), (1 bsl 59) - 1, 1 bsl 59]), tail(term_to_binary(I)))},
        {1, ?LET(N, byte(), [<<108, 0:32>>, 97, N])}
    ]).

tail(<<131, Rest/binary>>) ->
    Rest.

old_atom() ->
    frequency([
        {4, ?LET(A, an_atom(), name(A))},
        {1, ?LET({T, B}, {oneof([115, 119]), resize(20, binary())}, [T, byte_size(B), B])},
        {1, ?LET({T, B}, {oneof([100, 118]), resize(20, binary())}, [T, <<(byte_size(B)):16>>, B])},
        {1, ?LET({N, T}, {range(250, 260), oneof([100, 118])}, [T, <<N:16>>, binary:copy(<<"y">>, N)])},
        {1, ?LET(Cs, resize(10, list(char_())), utf8(Cs))}
    ]).

name(A) ->
    B = atom_to_binary(A),
    case unicode:characters_to_binary(B, utf8, latin1) of
        L when is_binary(L) ->
            oneof(
                [[100, <<(byte_size(L)):16>>, L], [118, <<(byte_size(B)):16>>, B]] ++
                    [[115, byte_size(L), L] || byte_size(L) < 256] ++
                    [[119, byte_size(B), B] || byte_size(B) < 256]
            );
        _ ->
            [118, <<(byte_size(B)):16>>, B]
    end.

%% All of Unicode and a little more: surrogates and what lies above.
char_() ->
    oneof([range(0, 16#7F), range(16#80, 16#7FF), range(16#800, 16#FFFF), range(16#10000, 16#11FFFF)]).

utf8(Cs) ->
    B = <<<<(utf8_char(C))/binary>> || C <- Cs>>,
    [119, byte_size(B), B].

utf8_char(C) when C < 16#80 -> <<C>>;
utf8_char(C) when C < 16#800 -> <<6:3, (C bsr 6):5, 2:2, C:6>>;
utf8_char(C) when C < 16#10000 -> <<14:4, (C bsr 12):4, 2:2, (C bsr 6):6, 2:2, C:6>>;
utf8_char(C) -> <<30:5, (C bsr 18):3, 2:2, (C bsr 12):6, 2:2, (C bsr 6):6, 2:2, C:6>>.

old_float() ->
    oneof([
        ?LET(F, float(), [99, text31(io_lib:format("~.17e", [F]))]),
        ?LET(
            S,
            oneof([
                "1.5", "1,5", "+1.5e10", "-0.0", "1.0e400", "1.0e-400", "4.9e-324", "1.e5", ".5",
                "1.5e", "1.5x", " 1.5", "inf", "nan", "0x1.0p3", "1.7976931348623157e+308",
                "1.8e308", "00001.50000", "1.5e+0000000000000000000003", ""
            ]),
            [99, text31(S)]
        ),
        %% no zero byte within the 31: what follows is read along
        ?LET(N, oneof([30, 31, 32, 40]), [99, "1.", lists:duplicate(N - 2, $5), 0]),
        ?LET(W, range(0, (1 bsl 64) - 1), [70, <<W:64>>]),
        ?LET({S, M}, {range(0, 1), range(0, 3)}, [70, <<S:1, 16#7FF:11, M:52>>])
    ]).

text31(S) ->
    B = iolist_to_binary(S),
    N = min(31, byte_size(B)),
    <<B:N/binary, 0:(8 * (31 - N))>>.

node_() ->
    frequency([
        {4, name119('nonode@nohost')},
        {1, name119('a@h')},
        {2, old_atom()},
        {1, old_leaf_not_atom()}
    ]).

old_leaf_not_atom() ->
    oneof([[106], [97, 1], [109, <<0:32>>]]).

old_pid() ->
    ?LET({N, Id, S}, {node_(), edge(15), edge(13)}, oneof([
        ?LET(C, range(0, 4), [103, N, <<Id:32, S:32, C:8>>]),
        ?LET(C, creation(), [88, N, <<Id:32, S:32, C:32>>])
    ])).

old_port() ->
    ?LET({N, Id}, {node_(), edge(28)}, oneof([
        ?LET(C, range(0, 4), [102, N, <<Id:32, C:8>>]),
        ?LET(C, creation(), [89, N, <<Id:32, C:32>>]),
        ?LET(C, creation(), [120, N, <<Id:64, C:32>>])
    ])).

old_ref() ->
    ?LET({N, First, Words, Rest}, {node_(), edge(18), range(0, 6), u32()}, oneof([
        ?LET(C, range(0, 4), [101, N, <<First:32, C:8>>]),
        ?LET(C, range(0, 4), [114, <<Words:16>>, N, <<C:8, (words(First, Words, Rest))/binary>>]),
        ?LET(C, creation(), [90, <<Words:16>>, N, <<C:32, (words(First, Words, Rest))/binary>>])
    ])).

words(_, 0, _) -> <<>>;
words(First, N, Rest) -> <<First:32, (binary:copy(<<Rest:32>>, N - 1))/binary>>.

creation() ->
    weighted_default({3, 0}, {1, u32()}).

%% Around the first number that does not fit that many bits.
edge(Bits) ->
    oneof([range(0, 3), range((1 bsl Bits) - 2, (1 bsl Bits) + 1), range(0, (1 bsl 32) - 1)]).

u16() ->
    range(0, 16#FFFF).

compressed(Plain) ->
    compressed(Plain, 0).

compressed(Plain, Wrong) ->
    <<131, 80, (max(0, byte_size(Plain) + Wrong)):32, (zlib:compress(Plain))/binary>>.
